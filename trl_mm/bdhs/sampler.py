"""Algorithm 1 of arXiv 2407.02477: attempts until the rejected answer differs enough from the chosen one."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import PreTrainedModel, ProcessorMixin

from ..data.rows import check_row, message_text
from ..data.seeds import derived_seed
from ..generation import Completer, Request, SamplingSettings
from .config import SPEED, BDHSConfig
from .guidance import cut, find_sentence_end, split_sentences, swap_yes_no, swapped_word
from .modes import MODES
from .similarity import make_similarity


NEEDS = ("images", "prompt", "chosen")
# An image feature takes a sixty-fourth of the keys and values of a token in a 7B LLaVA-1.6
FEATURES_PER_TOKEN = 4


@dataclass
class Piece:
    """One sentence of a rejected answer: what is given of it, and what the model is asked to write after it."""

    before: str  # white space between this sentence and the one before
    first_part: str
    request: Request
    rest: str = ""

    @property
    def text(self):
        if not self.first_part:
            return self.before + self.rest.lstrip() if self.rest.strip() else ""
        return self.before + self.first_part + self.rest


class BDHSSampler:
    """
    Bias-Driven Hallucination Sampling (arXiv 2407.02477, Alg. 1): SFT rows in, preference rows out.

    Args:
        config ([`BDHSConfig`]): settings.
        processor ([`~transformers.ProcessorMixin`]): processor of the model, with a chat template.
        device (`str`, *optional*): where an embedding model for the similarity runs.

    The model sees little of the image, as `mode` says, and only for this: pairs have the images of their rows.

    Returns, when called with a model, rows (`row_id` and PIL `images` needed) and the training
    step, the rows in their order with `rejected` added, and the columns
    `bdhs_attempts` (attempts made), `bdhs_similarity` (of the kept answer to the chosen one) and `bdhs_guided`.
    Raises a `ValueError` that names the row if one has no `row_id`, no answer of the assistant, or an image in it.
    """

    def __init__(self, config: BDHSConfig, processor: ProcessorMixin, device: str | torch.device | None = None):
        self.config, self.mode = config, MODES[config.mode]
        self.num_attempts = 1 if self.mode.teacher_forced else config.max_attempts
        if config.guided and not self.mode.teacher_forced:
            split_sentences("")  # a missing package shows now
        self.similarity = make_similarity(config.similarity, device)
        names = ("temperature", "top_p", "batch_size", "max_batch_tokens", *SPEED)
        settings = {name: getattr(config, name) for name in names}
        self.sentences = Completer(processor, SamplingSettings(config.max_sentence_tokens, **settings))
        self.answers = Completer(processor, SamplingSettings(config.max_answer_tokens, **settings))

    def __call__(
        self, model: PreTrainedModel, rows: Sequence[dict[str, Any]], step: int | None = 0
    ) -> list[dict[str, Any]]:
        prompts = self._prompts(rows)
        pairs = []
        for part in self._parts(prompts, step):
            pairs += self._pairs(model, prompts[part], step)
            for prompt in prompts[part]:
                prompt.features = None
        return pairs

    def _pairs(self, model, prompts, step):
        pending, pairs = list(range(len(prompts))), {}
        for attempt in range(1, self.num_attempts + 1):
            last = attempt == self.num_attempts
            # Alg. 1, line 5: the last of several attempts is unguided
            guided = self.config.guided and (not last or attempt == 1)
            write = self.guided_answers if guided else self.unguided_answers
            if self.mode.teacher_forced:
                write = self.predicted_answers
            answers = write(model, [self._draw(prompts[index], step, attempt) for index in pending])
            # White space is no answer: the chosen one in its place fails the gate, or ends as a pair without signal
            answers = [answer or prompts[index].answer for index, answer in zip(pending, answers, strict=True)]
            similarities = self.similarity(answers, [prompts[index].answer for index in pending])
            for index, answer, similarity in zip(pending, answers, similarities, strict=True):
                if last or similarity < self.config.similarity_threshold:
                    pairs[index] = as_pair(prompts[index].row, answer, attempt, similarity, guided)
            pending = [index for index in pending if index not in pairs]
            if not pending:
                break
        return [pairs[index] for index in range(len(prompts))]

    def guided_answers(self, model: PreTrainedModel, draws: Sequence[Request]) -> list[str]:
        """Complete all sentences of all rows together: they do not depend on one another (eq. 7)."""
        rows = [self._pieces(draw) for draw in draws]
        pieces = [piece for row in rows for piece in row]
        completions = self.sentences.complete(
            model, [piece.request for piece in pieces], self._find_end, self.config.positions
        )
        for piece, completion in zip(pieces, completions, strict=True):
            piece.rest = completion.rstrip()
        return ["".join(piece.text for piece in row).strip() for row in rows]

    def unguided_answers(self, model: PreTrainedModel, draws: Sequence[Request]) -> list[str]:
        """Full answers."""
        # What stands before the answer are earlier turns, if `chosen` has several messages
        requests = [replace(draw, prefix=draw.prompt.lead.rstrip()) for draw in draws]
        return [text.strip() for text in self.answers.complete(model, requests, positions=self.config.positions)]

    def predicted_answers(self, model: PreTrainedModel, draws: Sequence[Request]) -> list[str]:
        """POVID's distortion: what the model expects in each place of the chosen answer."""
        return [text.strip() for text in self.answers.predict(model, draws)]

    def _prompts(self, rows):
        for number, row in enumerate(rows):
            if "row_id" not in row:
                raise ValueError(
                    f"Row {number} has no `row_id`, which its masks and samples derive from. `load_preferences` adds "
                    "it; otherwise give each row an id of its own."
                )
            check_row(row, f"Row {row['row_id']}", NEEDS)
        prompts = self.sentences.prompts(rows)
        for prompt in prompts:
            if not prompt.answer.strip():  # tool calls
                raise ValueError(
                    f"Row {prompt.row['row_id']}: the answer in `chosen` has no text, so no rejected one can be made "
                    "from it. Remove the row."
                )
        return prompts

    def _parts(self, prompts, step):
        """Slices of rows whose image features fit in memory: of each, those of tokens that some attempt shows."""
        if self.mode.images:  # each attempt has an image of its own
            return [slice(None)]
        starts, count = [0], 0
        for index, prompt in enumerate(prompts):
            masks = [self._draw(prompt, step, attempt).visible for attempt in range(1, self.num_attempts + 1)]
            all_tokens = torch.ones(prompt.num_image_tokens, dtype=torch.bool)
            prompt.kept = torch.stack([all_tokens if mask is None else mask for mask in masks]).any(0)
            count += int(prompt.kept.sum())
            if count > FEATURES_PER_TOKEN * self.config.max_batch_tokens and index > starts[-1]:
                starts.append(index)
                count = int(prompt.kept.sum())
        return list(map(slice, starts, [*starts[1:], len(prompts)]))

    def _draw(self, prompt, step, attempt):
        """What one attempt shows of a row to all that is written in it (Alg. 1, line 2): one mask, or one noise."""
        seed = draw_seed(self.config, step, prompt.row, attempt)
        if self.mode.images:
            prompt = prompt.showing(self.mode.images(prompt.row["images"], self.config, seed))
        visible = self.mode.visible and self.mode.visible(prompt.num_image_tokens, self.config, seed)
        return Request(prompt, seed=seed, visible=visible)

    def _pieces(self, draw):
        prompt = draw.prompt
        rng = random.Random(derived_seed("cut", *draw.seed))
        sentences = split_sentences(prompt.answer, self.config.language)
        pieces, start = [], 0
        for number, sentence in enumerate(sentences):
            swapped = swap_yes_no(sentence, self.config.swap_probability, rng)
            keep = swapped_word(sentence, swapped)
            first_part = cut(swapped, rng, self.config.cut_before_first_word, keep)
            earlier = prompt.answer[:start]
            space = sentence[: len(sentence) - len(sentence.lstrip())]
            before = earlier[len(earlier.rstrip()) :] + space
            # A space belongs to the token of the next word. The end of a line stays: the model is to begin a new one
            prefix = (prompt.lead + earlier + space + first_part).rstrip(" ")
            pieces.append(Piece(before, first_part, replace(draw, prefix=prefix, seed=(*draw.seed, number))))
            start += len(sentence)
        return pieces

    def _find_end(self, text):
        return find_sentence_end(text, self.config.language)


def draw_seed(config, step, row, attempt):
    """What one attempt on a row derives its mask, noise, cuts and samples from (`tuple`)."""
    return config.seed, step, row["row_id"], attempt


def as_pair(row, rejected, attempts, similarity, guided):
    """The row with `rejected`, in messages like those of `chosen`, and what is known of how it was made."""
    *earlier, last = row["chosen"]
    if row.get("prompt") and row["prompt"][-1]["role"] == "assistant" and not earlier:
        # Both answers go on with what the prompt begins: a space there in one alone would tell them apart
        chosen = message_text(last)
        rejected = chosen[: len(chosen) - len(chosen.lstrip())] + rejected.lstrip()
    content = [{"type": "text", "text": rejected}] if isinstance(last.get("content"), list) else rejected
    return {
        **row,
        "rejected": [*earlier, {"role": "assistant", "content": content}],
        "bdhs_attempts": attempts,
        "bdhs_similarity": round(float(similarity), 6),
        "bdhs_guided": guided,
    }
