"""Caches of a fixed length, in which a compiled forward finds keys and values where they were a token ago.

What is unusual in it: lengths are rounded up and caches handed out again, since each new shape is compiled, or
captured as a graph, anew.
"""

from typing import Any

import torch
from transformers import Cache, StaticCache


CACHES = ("dynamic", "static")
STEP = 64  # tokens: lengths are multiples of it, or of more where that is at most an eighth


class StaticCaches:
    """
    Static caches of a model for batches that are completed one after the other. The last one is kept, for a next batch
    of its shape.

    Args:
        model ([`~transformers.PreTrainedModel`]): the model, unwrapped.
        max_new_tokens (`int`): longest completion, in tokens.

    Raises:
        ValueError: the model cannot work with such caches.
    """

    def __init__(self, model: Any, max_new_tokens: int):
        check_static_cache(model)
        self.config = model.config.get_text_config(decoder=True)
        self.max_new_tokens = max_new_tokens
        self._shape: tuple[int, int] | None = None
        self._cache: Cache | None = None

    def empty(self, attention_mask: torch.Tensor) -> Cache:
        """
        An empty cache for a batch.

        Args:
            attention_mask (`torch.Tensor` of shape `(B, T)`): mask of all that is read before the first new token.

        Returns:
            `Cache`: room for B rows of T and `max_new_tokens` tokens, or a little more.
        """
        shape = (len(attention_mask), rounded_up(attention_mask.shape[1] + self.max_new_tokens))
        if shape == self._shape and self._cache is not None:
            self._cache.reset()
            return self._cache
        self._cache = None  # its memory is free before the next one takes some
        self._shape, self._cache = shape, StaticCache(config=self.config, max_cache_len=shape[1])
        return self._cache

    def clear(self) -> None:
        """Give the memory of the last cache back."""
        self._shape = self._cache = None

    def filled(self, attention_mask: torch.Tensor, cache: Cache, rows: torch.Tensor) -> Cache:
        """
        A cache for a batch that goes on from what is computed already.

        Args:
            attention_mask (`torch.Tensor` of shape `(B, T)`): as in [`StaticCaches.empty`].
            cache (`Cache`): keys and values of prompts, which stay as they are.
            rows (`torch.Tensor` of shape `(B,)`): the prompt of each row of the batch.

        Returns:
            `Cache`
        """
        filled = self.empty(attention_mask)
        for index, layer in enumerate(cache.layers):
            filled.update(layer.keys[rows], layer.values[rows], index)
        return filled


def rounded_up(length: int) -> int:
    """The length of a cache (`int`) that holds `length` tokens: few are taken in vain, and few lengths occur."""
    step = STEP
    while 16 * step <= length:
        step *= 2
    return -(-length // step) * step


def check_static_cache(model: Any) -> None:
    """Refuse a model that cannot decode with a static cache."""
    if not getattr(model, "_can_compile_fullgraph", False):
        raise ValueError(
            f"`cache_implementation='static'` does not work for a `{model.config.model_type}` model, whose forward "
            "transformers cannot compile. Leave the setting out."
        )


def check_cache(implementation: str) -> None:
    """Refuse caches that answers do not go on from: prompts are computed once, and completed from there."""
    if implementation not in CACHES:
        raise ValueError(
            f"`cache_implementation` must be one of {', '.join(CACHES)}, got {implementation!r}. Caches that are "
            "quantized or offloaded hold no prompt that several completions can share."
        )
