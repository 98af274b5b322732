"""How tokens are chosen and when a completion ends.

Sampling is seeded per request, by inverting the cumulative distribution with one uniform number a step, so that what a
row is answered does not depend on the other rows of its batch, but for rounding.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    StoppingCriteria,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from ..data.seeds import derived_seed
from .merged_adapters import merge_as_planned
from .static_cache import check_cache


AUTO = "auto"  # of `batch_size`


@dataclass(frozen=True)
class SamplingSettings:
    """
    How completions are sampled.

    Args:
        max_new_tokens (`int`, *optional*, defaults to `128`): longest completion, in tokens.
        temperature (`float`, *optional*, defaults to `1.0`): temperature of the softmax; `0.0` is greedy decoding.
        top_p (`float`, *optional*, defaults to `1.0`): share of probability mass that is sampled from.
        batch_size (`int` or `str`, *optional*, defaults to `32`): requests that go through the model together, at
            most. `"auto"` finds by trial how much fits into the memory of a GPU, in place of `max_batch_tokens`, and
            makes smaller batches when that was too much.
        max_batch_tokens (`int`, *optional*, defaults to `16384`): tokens of such a batch, at most: requests times the
            longest one, with its image tokens and `max_new_tokens`. A longer request goes alone. A 7B LLaVA-1.6 keeps
            0.5 MB of keys and values for each token (Mistral: 0.125 MB) beside 14 GB of weights, so 8 GB here.
        cache_implementation (`str`, *optional*, defaults to `"dynamic"`): where keys and values are kept: `"dynamic"`
            in memory that grows; `"static"` in memory of a fixed length, rounded up by an eighth or 63 tokens at most,
            so that transformers can compile decoding.
        compile_generation (`bool`, *optional*, defaults to `True`): with a static cache, whether decoding is compiled,
            which transformers does on GPUs. The first batches take minutes then.
    """

    max_new_tokens: int = 128
    temperature: float = 1.0
    top_p: float = 1.0
    batch_size: int | str = 32
    max_batch_tokens: int = 16384
    cache_implementation: str = "dynamic"
    compile_generation: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.batch_size, str) and self.batch_size != AUTO:
            raise ValueError(f"`batch_size` must be a whole number or 'auto', got {self.batch_size!r}.")
        check_cache(self.cache_implementation)

    def processors(self, seeds: Sequence[tuple]) -> list[LogitsProcessor]:
        """What chooses the tokens of a batch (`list[LogitsProcessor]`); `seeds` are what its rows derive from."""
        if self.temperature == 0:
            return []
        warpers: list[LogitsProcessor] = [] if self.temperature == 1 else [TemperatureLogitsWarper(self.temperature)]
        if self.top_p < 1:
            warpers.append(TopPLogitsWarper(self.top_p))
        return [*warpers, SeededSampling(seeds, self.max_new_tokens)]


class SeededSampling(LogitsProcessor):
    """Leaves one token per row, drawn with that row's own random numbers: argmax of the result is a sample."""

    def __init__(self, seeds: Sequence[tuple], max_new_tokens: int):
        draws = [np.random.Generator(np.random.Philox(derived_seed(*seed))).random(max_new_tokens) for seed in seeds]
        self.uniform = torch.tensor(np.array(draws))  # (B, max_new_tokens)
        self.step = 0

    def __call__(self, input_ids, scores):
        self.uniform = self.uniform.to(scores.device)  # once, not for every token
        cumulative = scores.double().softmax(-1).cumsum(-1)  # (B, V)
        target = self.uniform[:, self.step : self.step + 1] * cumulative[:, -1:]
        chosen = torch.searchsorted(cumulative, target, right=True).clamp(max=scores.shape[-1] - 1)
        self.step += 1
        return torch.full_like(scores, -torch.inf).scatter(-1, chosen, 0.0)


class StopWhere(StoppingCriteria):
    """
    Ends each row on its own, as soon as `find_end` finds an end in the row's new text. A row that has ended is not
    decoded again: that work is the host's, for every token, while the GPU waits.

    Args:
        find_end (`Callable[[str], int | None]`): given the new text of a row so far, where it ends, or `None`.
        decode (`Callable[[torch.LongTensor, list[int]], list[str]]`): given the token ids of all rows, the new texts
            of those with the given numbers.
    """

    def __init__(
        self,
        find_end: Callable[[str], int | None],
        decode: Callable[[torch.LongTensor, Sequence[int]], Sequence[str]],
    ):
        self.find_end, self.decode = find_end, decode
        self.done: list[bool] = []

    def __call__(self, input_ids, scores, **kwargs):
        self.done = self.done or [False] * len(input_ids)
        going = [row for row, done in enumerate(self.done) if not done]
        for row, text in zip(going, self.decode(input_ids, going), strict=True):
            self.done[row] = self.find_end(text) is not None
        return torch.tensor(self.done, device=input_ids.device)


def uncompiled(model: Any) -> contextlib.AbstractContextManager[Any]:
    """Context in which compiled layers run as they are; without such layers it does nothing."""
    if all(module._compiled_call_impl is None for module in model.modules()):
        return contextlib.nullcontext()
    return torch.compiler.set_stance("force_eager")


@contextlib.contextmanager
def generating(model: Any) -> Iterator[None]:
    """
    No gradients, no dropout, no settings of the model's own and, in eval mode, no gradient checkpointing. Adapters are
    merged if [`~trl_mm.generation.merged_adapters.merged_when_generating`] holds the model. Layers that training has
    compiled run as they are: each length of a cache would be compiled.
    """
    merge_as_planned(model)
    training = [module for module in model.modules() if module.training]
    model.eval()
    # `generate` fills what a call leaves open from here: penalties or beams would not sample from the model
    holder = model.get_base_model() if hasattr(model, "get_base_model") else model
    own, holder.generation_config = holder.generation_config, GenerationConfig()
    try:
        with torch.no_grad(), uncompiled(model):
            yield
    finally:
        holder.generation_config = own
        for module in training:
            module.training = True
