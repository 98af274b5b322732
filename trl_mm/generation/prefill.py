"""Prompts that several completions share go through the model once, with their images.

```
prompt        [ padding | prompt without its last token ]
completion    [ padding | prompt without its last token ][ padding | last token, prefix ] new tokens
```

The keys and values of a prompt are repeated for its completions: this saves the time of the prompt, not its memory.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import Cache, DynamicCache, DynamicLayer, GenerationConfig
from transformers.generation import GenerateDecoderOnlyOutput

from ..tokens.processor import TOKEN_INPUTS
from .inputs import pad_left
from .static_cache import StaticCaches


# What `generate` takes with a value for each token
GENERATION_INPUTS = (*TOKEN_INPUTS, "inputs_embeds", "position_ids")
# transformers 5.24 says `cache` for what was `past_key_values`, and warns of the old name at each call
CACHE = "cache" if "cache" in GenerateDecoderOnlyOutput.__dataclass_fields__ else "past_key_values"


@dataclass
class Prefilled:
    """
    Prompts whose keys and values are computed.

    Attributes:
        cache (`Cache`): keys and values of each prompt but for its last token.
        attention_mask (`torch.Tensor` of shape `(B, T - 1)`): zeros where the cache holds padding.
        last_ids (`torch.Tensor` of shape `(B,)`): last token of each prompt.
        last_positions (`torch.Tensor` of shape `(B,)`, *optional*): its position, if not up to the model.
        rope_deltas (`torch.Tensor` of shape `(B, 1)`, *optional*): what a model with positions in several dimensions
            adds to those of text.
    """

    cache: Cache
    attention_mask: torch.Tensor
    last_ids: torch.Tensor
    last_positions: torch.Tensor | None
    rope_deltas: torch.Tensor | None


def beginnings(inputs: dict[str, torch.Tensor], cut: Sequence[int], pad_token_id: int) -> dict[str, torch.Tensor]:
    """
    Inputs without the ends of their prompts, for [`prefill`].

    Args:
        inputs (`dict[str, torch.Tensor]`): prompts as [`~trl_mm.generation.inputs.model_inputs`] makes them.
        cut (`list[int]`): tokens to leave out at the end of each prompt; all images are before them.
        pad_token_id (`int`): what stands in front of shorter ones in `input_ids`.

    Returns:
        `dict[str, torch.Tensor]`: the same, padded on the left to the longest beginning.
    """
    if not any(cut):
        return inputs
    real = inputs["attention_mask"].bool()  # (B, T)

    def shortened(values: torch.Tensor, fill: int) -> torch.Tensor:
        rows = [row[keep] for row, keep in zip(values, real, strict=True)]
        return pad_left([row[: len(row) - count] for row, count in zip(rows, cut, strict=True)], fill)

    fill = {"input_ids": pad_token_id}
    names = [name for name in GENERATION_INPUTS if name in inputs]
    return {**inputs, **{name: shortened(inputs[name], fill.get(name, 0)) for name in names}}


def prefill(model: Any, inputs: dict[str, torch.Tensor], last_ids: Sequence[int]) -> Prefilled:
    """
    Compute the keys and values of prompts, for completions that [`continue_from`] from them.

    Args:
        model ([`~transformers.PreTrainedModel`]): the model, unwrapped, within [`generating`].
        inputs (`dict[str, torch.Tensor]`): prompts as [`~trl_mm.generation.inputs.model_inputs`] makes them, padded on
            the left to T tokens.
        last_ids (`list[int]`): last token of each prompt. It must be text, since it is computed with what follows.

    Returns:
        [`Prefilled`]
    """
    shortened = {name: value[:, :-1] if name in GENERATION_INPUTS else value for name, value in inputs.items()}
    # `generate`, not a plain forward, since it knows the positions that each model wants under padding. The token that
    # it adds never enters the cache
    config = GenerationConfig(max_new_tokens=1, pad_token_id=0, use_cache=True, return_dict_in_generate=True)
    # Nor does it wait for other processes, which may have less to prefill, or nothing
    cache = getattr(model.generate(**shortened, generation_config=config, synced_gpus=False), CACHE)
    positions, holder = inputs.get("position_ids"), _holder_of_rope_deltas(model)
    return Prefilled(
        cache,
        shortened["attention_mask"],
        torch.tensor(last_ids, device=model.device),
        None if positions is None else positions[:, -1],
        None if holder is None else holder.rope_deltas,
    )


def continue_from(
    model: Any,
    prefilled: Prefilled,
    rows: Sequence[int],
    continued: Sequence[list[int]] | None = None,
    static: StaticCaches | None = None,
) -> dict[str, Any]:
    """
    What `generate` needs to complete prefilled prompts.

    Args:
        model ([`~transformers.PreTrainedModel`]): the model that made `prefilled`. Some keep the positions of their
            batch, so it must not be used for anything else before `generate`.
        prefilled ([`Prefilled`]): the prompts. They stay as they are: others can continue from them too.
        rows (`list[int]`): prompt of each completion, as its number in `prefilled`.
        continued (`list[list[int]]`, *optional*): token ids that follow the prompt of each completion, if any do.
        static ([`StaticCaches`], *optional*): where the keys and values go, if not into a cache that grows.

    Returns:
        `dict[str, Any]`: arguments of `generate`. Its `input_ids` of shape `(len(rows), C)` hold the last token of the
        prompts and what follows, so the new tokens are those from C on in what `generate` returns.

    Raises:
        ValueError: `continued` has different lengths and the model sees a window of tokens, in which the padding
            between prompt and completion would take the place of others.
    """
    continued = continued or [[]] * len(rows)
    if not supports_continuation(model) and len({len(ids) for ids in continued}) > 1:
        raise ValueError(
            f"A `{model.config.model_type}` model has sliding windows, so completions of shared prompts must have "
            "`continued` of one length. Call `continue_from` once for each length."
        )
    index = torch.tensor(rows, device=prefilled.last_ids.device)
    ids = [[last, *more] for last, more in zip(prefilled.last_ids[index].tolist(), continued, strict=True)]
    new = pad_left([torch.ones(len(row), dtype=torch.long) for row in ids]).to(index.device)  # (len(rows), C)
    mask = torch.cat([prefilled.attention_mask[index], new], 1)  # (len(rows), T - 1 + C)
    inputs = {
        "input_ids": pad_left([torch.tensor(row) for row in ids]).to(index.device),
        "attention_mask": mask,
        CACHE: static.filled(mask, prefilled.cache, index) if static else _selected(prefilled.cache, index),
    }
    if prefilled.last_positions is not None:
        inputs["position_ids"] = (prefilled.last_positions[index, None] + new.cumsum(1) - 1) * new
    if prefilled.rope_deltas is not None:
        _holder_of_rope_deltas(model).rope_deltas = prefilled.rope_deltas[index]
    return inputs


def supports_continuation(model: Any) -> bool:
    """Whether prompts of a model can be continued at different lengths: not if it sees a window of tokens."""
    layers = DynamicCache(config=model.config.get_text_config(decoder=True)).layers
    return all(type(layer) is DynamicLayer for layer in layers)


def _selected(cache, rows):
    selected = copy.copy(cache)
    selected.layers = [copy.copy(layer) for layer in cache.layers]
    selected.batch_select_indices(rows)
    return selected


def _holder_of_rope_deltas(model):
    return next((module for module in model.modules() if hasattr(module, "rope_deltas")), None)
