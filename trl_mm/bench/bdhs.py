"""BDHS as it is built here beside the direct way: a loop over rows and sentences, hidden image tokens masked."""

import random
import statistics

import numpy as np
import torch
from transformers import LogitsProcessorList, StoppingCriteriaList

from ..bdhs.config import BDHSConfig
from ..bdhs.sampler import BDHSSampler
from ..generation import Completer
from ..generation.decoding import StopWhere, generating
from ..tokens.chat import text_ids
from ..tokens.chat_template import bos_ids
from .models import QUESTION, WORDS
from .rounds import Rounds, alternate, speed_ratio
from .rows import picture
from .steps import OURS, load_model


NAIVE = "naive"
WORDS_PER_SENTENCE = 12


class OneByOne(Completer):
    """The only change w.r.t. [`Completer`] is that requests are completed one by one, from full prompts and a mask."""

    def complete(self, model, requests, find_end=None, positions="collapsed"):
        config = self._generation_config(model)
        with generating(model):
            return [self._alone(model, request, config, find_end) for request in requests]

    def _alone(self, model, request, config, find_end):
        prompt, prefix = request.prompt, text_ids(self.processor, request.prefix)
        inputs = self.processor(
            text=[prompt.text],
            images=[prompt.row["images"]],
            add_special_tokens=bool(bos_ids(self.processor)),
            return_tensors="pt",
        ).to(model.device)
        given = torch.tensor([prefix], dtype=torch.long, device=model.device)
        visible = torch.ones(len(prompt.ids) + len(prefix), dtype=torch.long)
        if request.visible is not None:
            visible[: len(prompt.ids)][prompt.is_image] = request.visible.long()
        inputs["input_ids"] = torch.cat([inputs["input_ids"], given], dim=1)
        inputs["attention_mask"] = visible[None].to(model.device)
        inputs["pixel_values"] = inputs["pixel_values"].to(model.dtype)
        context, start = self._context(prompt, prefix), inputs["input_ids"].shape[1]

        def new_texts(sequences, rows=(0,)):
            return [self._text(context, ids) for ids in sequences[:, start:].tolist()]

        sequences = model.generate(
            **inputs,
            generation_config=config,
            logits_processor=LogitsProcessorList(self.settings.processors([request.seed])),
            stopping_criteria=StoppingCriteriaList([StopWhere(find_end, new_texts)] if find_end else []),
        )
        (text,) = new_texts(sequences)
        return text[: find_end(text)] if find_end else text


def random_sft_rows(settings, seed=0):
    """
    SFT rows of smooth random images and answers of random words.

    Args:
        settings ([`BDHSBenchmark`]): how many rows, and how long.
        seed (`int`, *optional*, defaults to `0`): what pixels and words derive from.

    Returns:
        `list[dict]`: rows with PIL `images`, `prompt`, `chosen` and `row_id`.
    """
    draw, pixels = random.Random(seed), np.random.default_rng(seed)

    def row(number):
        sentences = [" ".join(draw.choices(WORDS, k=WORDS_PER_SENTENCE)) + " ." for _ in range(settings.sentences)]
        return {
            "images": [picture(settings.image_size, pixels)],
            "prompt": [{"role": "user", "content": QUESTION}],
            "chosen": [{"role": "assistant", "content": " ".join(sentence.capitalize() for sentence in sentences)}],
            "row_id": str(number),
        }

    return [row(number) for number in range(settings.rows)]


def measure(settings):
    """
    Run the benchmark: one guided attempt with greedy decoding for every row.

    Args:
        settings ([`BDHSBenchmark`]): what to measure.

    Returns:
        `dict[str, Any]`: `ratio` and `ratio_spread` (answers per second, ours over the direct way's),
        `equal_answers` (share of the direct way's answers that ours equal), `image_tokens` (per image) and for each
        side `answers_per_second`.
    """
    model, processor = load_model(settings)
    model.eval()
    config = BDHSConfig(
        mask_threshold=settings.mask_threshold,
        max_attempts=1,
        similarity="lexical",
        temperature=0.0,
        max_sentence_tokens=settings.max_sentence_tokens,
    )
    ours, naive = BDHSSampler(config, processor), BDHSSampler(config, processor)
    naive.sentences = OneByOne(processor, naive.sentences.settings)
    rows = random_sft_rows(settings)

    def answers(sampler, rows):
        return [pair["rejected"][-1]["content"] for pair in sampler(model, rows)]

    timed = alternate(
        {OURS: lambda: answers(ours, rows), NAIVE: lambda: answers(naive, rows[: settings.naive_rows])},
        settings.rounds,
    )
    counts = {OURS: settings.rows, NAIVE: settings.naive_rows}
    per_answer = {name: Rounds([s / counts[name] for s in timed[name].seconds]) for name in counts}
    ratio, spread = speed_ratio(per_answer[OURS], per_answer[NAIVE])
    found, wanted = timed[OURS].results[0], timed[NAIVE].results[0]
    return {
        "ratio": ratio,
        "ratio_spread": spread,
        "equal_answers": sum(a == b for a, b in zip(found, wanted, strict=False)) / len(wanted),
        "image_tokens": ours.sentences.prompts(rows[:1])[0].num_image_tokens,
        "sides": {
            name: {"answers_per_second": 1 / statistics.median(per_answer[name].seconds)} for name in per_answer
        },
    }


def summary(result):
    """The figures as text (`str`)."""
    low, high = result["ratio_spread"]
    rates = ", ".join(f"{name} {side['answers_per_second']:.3f}" for name, side in result["sides"].items())
    return (
        f"{result['image_tokens']} image tokens per row; answers per second: {rates}\n"
        f"trl_mm is {result['ratio']:.1f}x as fast as the direct way [{low:.1f}, {high:.1f}]; "
        f"{result['equal_answers']:.0%} of the answers are the same"
    )
