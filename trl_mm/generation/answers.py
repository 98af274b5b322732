"""Several answers to one prompt, as token ids: what was sampled is what is scored later."""

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from ..tokens.chat import render
from .completer import image_token_ids
from .decoding import SeededSampling, generating
from .inputs import model_inputs
from .prefill import continue_from, prefill
from .prompts import Prompt, Request
from .static_cache import CACHES, StaticCaches


# Settings that look at the tokens of the prompt, or bring a cache of their own
NEEDS_WHOLE_PROMPTS = {
    "repetition_penalty": (None, 1.0),
    "no_repeat_ngram_size": (None, 0),
    "cache_implementation": (None, *CACHES),
    "prompt_lookup_num_tokens": (None,),
}

NO_TOKENS = torch.empty(0, dtype=torch.long)  # of prompts that hide nothing: text and images are enough


def sample_answers(
    model: Any,
    processor: Any,
    rows: Sequence[Mapping[str, Any]],
    config: GenerationConfig,
    seeds: Sequence[tuple],
    num_samples: int = 2,
) -> list[list[list[int]]]:
    """
    Sample answers to each prompt, which goes through the model once with its images.

    Args:
        model ([`~transformers.PreTrainedModel`]): the model, unwrapped, with all of its weights.
        processor ([`~transformers.ProcessorMixin`]): its processor.
        rows (`list[dict]`): rows with `prompt` and PIL `images`; answers are not looked at.
        config ([`~transformers.GenerationConfig`]): how tokens are chosen, and the ids of EOS tokens.
        seeds (`list[tuple]`): what the samples of each row derive from.
        num_samples (`int`, *optional*, defaults to `2`): answers to each prompt.

    Returns:
        `list[list[list[int]]]`: `num_samples` answers of each row, each up to and with its EOS token.

    Raises:
        ValueError: `config` asks for beams, which are no samples.
    """
    requests = []
    for row in rows:
        text = render({"images": row["images"], "prompt": row["prompt"]}, processor).prompt
        requests.append(Request(Prompt(row, text, "", "", NO_TOKENS, NO_TOKENS)))

    def inputs_of(prompts: Sequence[int]) -> dict[str, torch.Tensor]:
        return model_inputs(model, processor, [requests[index] for index in prompts], [[]] * len(prompts))

    order = [index for index in range(len(rows)) for _ in range(num_samples)]
    of_samples = [(*seeds[index], number % num_samples) for number, index in enumerate(order)]
    answers = sample_from(model, processor, inputs_of, order, config, of_samples)
    return [answers[start : start + num_samples] for start in range(0, len(answers), num_samples)]


def sample_from(
    model: Any,
    processor: Any,
    inputs_of: Callable[[Sequence[int]], dict[str, Any]],
    order: Sequence[int],
    config: GenerationConfig,
    seeds: Sequence[tuple],
) -> list[list[int]]:
    """
    Sample answers to prompts whose inputs are made already; each prompt goes through the model once.

    Args:
        model ([`~transformers.PreTrainedModel`]): the model, unwrapped, with all of its weights.
        processor ([`~transformers.ProcessorMixin`]): its processor.
        inputs_of (`Callable[[Sequence[int]], dict[str, torch.Tensor]]`): inputs of prompts, by their numbers, padded
            on the left.
        order (`list[int]`): the prompt of each answer. Their numbers count from 0, and none is left out.
        config ([`~transformers.GenerationConfig`]): how tokens are chosen, and the ids of EOS tokens.
        seeds (`list[tuple]`): what each answer derives from.

    Returns:
        `list[list[int]]`: the answers, each up to and with its EOS token.

    Raises:
        ValueError: `config` asks for beams, which are no samples.
    """
    if (config.num_beams or 1) > 1:
        raise ValueError(f"Answers are sampled, so `num_beams` must be 1, got {config.num_beams}.")
    own = copy.deepcopy(config)
    own.update(do_sample=False, temperature=None, top_k=None, top_p=None, min_p=None, use_cache=True)
    own.suppress_tokens = sorted({*(config.suppress_tokens or []), *image_token_ids(model.config, processor)})
    chosen = LogitsProcessorList(warpers(config))
    if config.do_sample:
        chosen.append(SeededSampling(seeds, own.max_new_tokens))
    with generating(model):
        if all(getattr(own, name, None) in harmless for name, harmless in NEEDS_WHOLE_PROMPTS.items()):
            inputs = inputs_of(range(max(order) + 1))
            prefilled = prefill(model, inputs, inputs["input_ids"][:, -1].tolist())
            is_static = own.cache_implementation == "static"
            static = StaticCaches(model, own.max_new_tokens) if is_static else None
            own.cache_implementation = None  # `generate` takes the cache that it is given
            inputs = continue_from(model, prefilled, order, static=static)
        else:
            inputs = inputs_of(order)
        sequences = model.generate(
            **inputs,
            generation_config=own,
            logits_processor=chosen,
            synced_gpus=False,  # as in `prefill`
        )
    eos = own.eos_token_id if isinstance(own.eos_token_id, list) else [own.eos_token_id]
    return [up_to_eos(ids, eos) for ids in sequences[:, inputs["input_ids"].shape[1] :].tolist()]


def warpers(config: GenerationConfig) -> list[LogitsProcessor]:
    """What shapes the distribution before a token is drawn (`list[LogitsProcessor]`), in the order of `generate`."""
    if not config.do_sample:
        return []
    made: list[LogitsProcessor] = []
    if config.temperature not in (None, 1.0):
        made.append(TemperatureLogitsWarper(config.temperature))
    if config.top_k:
        made.append(TopKLogitsWarper(config.top_k))
    if config.top_p is not None and config.top_p < 1:
        made.append(TopPLogitsWarper(config.top_p))
    if config.min_p is not None:
        made.append(MinPLogitsWarper(config.min_p))
    return made


def up_to_eos(ids: list[int], eos: Collection[int | None]) -> list[int]:
    """Token ids up to and with the first EOS token; all of them if there is none."""
    place = next((place for place, token in enumerate(ids) if token in eos), len(ids) - 1)
    return ids[: place + 1]
