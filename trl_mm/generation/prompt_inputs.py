"""
Prompts as the model reads them, each made once, and put together to any batch of them.

What is unusual in it: tokens and images of one prompt stay together, whatever the layout that a family has for the
images of a batch, so a batch may hold a prompt once, several times, or not at all.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch.nn.functional import pad

from ..tokens.chat import render
from ..tokens.chat_template import bos_ids
from ..tokens.processor import TOKEN_INPUTS
from .inputs import pad_left


def prompt_inputs(processor: Any, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, torch.Tensor]]:
    """
    Render, tokenize and process prompts with their images.

    Args:
        processor ([`~transformers.ProcessorMixin`]): processor of the model.
        rows (`list[dict]`): rows with `prompt` and PIL `images`.

    Returns:
        `list[dict[str, torch.Tensor]]`: for each row `input_ids` of shape `(1, P)` and what else the processor makes
        of tokens, and of images if it has any. Nothing is padded.

    Raises:
        ValueError: a text holds a token that stands for an image.
    """
    found = []
    for row in rows:
        inputs = processor(
            text=[render({"images": row["images"], "prompt": row["prompt"]}, processor).prompt],
            images=[row["images"]] if row["images"] else None,
            add_special_tokens=bool(bos_ids(processor)),
            return_tensors="pt",
        )
        found.append({name: value for name, value in inputs.items() if name != "attention_mask"})
    return found


def joined(prompts: Sequence[Mapping[str, torch.Tensor]], pad_token_id: int) -> dict[str, torch.Tensor]:
    """
    The batch of some prompts.

    Args:
        prompts (`list[dict[str, torch.Tensor]]`): prompts of [`prompt_inputs`].
        pad_token_id (`int`): what stands in front of shorter ones in `input_ids`.

    Returns:
        `dict[str, torch.Tensor]`: `input_ids`, `attention_mask` and what else has a value per token, of shape
        `(B, P)`, padded on the left; and the images of all prompts, one after the other.
    """
    fill = {"input_ids": pad_token_id}
    tokens = {
        # Some processors leave types out for a prompt without images
        name: pad_left([prompt.get(name, torch.zeros_like(prompt["input_ids"]))[0] for prompt in prompts], value)
        for name, value in ((name, fill.get(name, 0)) for name in TOKEN_INPUTS)
        if any(name in prompt for prompt in prompts)
    }
    tokens["attention_mask"] = pad_left([torch.ones_like(prompt["input_ids"][0]) for prompt in prompts])
    names = dict.fromkeys(name for prompt in prompts for name in prompt if name not in TOKEN_INPUTS)
    return {**tokens, **{name: _stacked([p[name] for p in prompts if name in p]) for name in names}}


def _stacked(values):
    """Values of several prompts, one after the other; smaller ones with zeros behind, as processors pad images."""
    sizes = torch.tensor([value.shape[1:] for value in values])
    largest = sizes.max(0).values
    padded = []
    for value, size in zip(values, sizes, strict=True):
        missing = (largest - size).flip(0).tolist()
        padded.append(pad(value, [part for count in missing for part in (0, count)]) if any(missing) else value)
    return torch.cat(padded)
