"""Prompts and what follows them to the tensors that the model takes.

Image tokens that are hidden from the model are dropped, not masked. A key that no query may attend to has no effect on
any output that is used, so the logits are the same and the prompt is up to a hundred times shorter.
"""

from collections.abc import Sequence
from typing import Any

import torch

from ..tokens.chat_template import bos_ids
from ..tokens.families import FAMILIES, family_of
from .prompts import Prompt, Request


def model_inputs(
    model: Any,
    processor: Any,
    requests: Sequence[Request],
    continued: Sequence[list[int]],
    positions: str = "collapsed",
) -> dict[str, torch.Tensor]:
    """
    Inputs of a batch, padded on the left.

    Args:
        model ([`~transformers.PreTrainedModel`]): the model, unwrapped.
        processor ([`~transformers.ProcessorMixin`]): its processor.
        requests (`list` of [`Request`]): prompts and what is visible of their images; prefixes are not looked at.
        continued (`list[list[int]]`): token ids that follow each prompt.
        positions (`str`, *optional*, defaults to `"collapsed"`): what hidden tokens do to the positions of the others:
            `"collapsed"` closes the gap, `"original"` keeps it.

    Returns:
        `dict[str, torch.Tensor]`: `inputs_embeds` of shape `(B, T, H)` or `input_ids` of shape `(B, T)`, and what the
        model needs beside them.

    Raises:
        ValueError: the model cannot hide image tokens but a request asks for it.
    """
    hides = any(request.visible is not None for request in requests)
    keeps = any(request.prompt.kept is not None for request in requests)
    if (hides or keeps) and family_of(model.config).hides_image_tokens:
        inputs = as_embeddings(model, processor, requests, continued, positions)
    elif not hides:
        inputs = as_processed(processor, requests, continued)
    else:
        known = [name for name, family in FAMILIES.items() if family.hides_image_tokens]
        raise ValueError(
            f"Image tokens of a `{model.config.model_type}` model cannot be hidden one by one; this works for "
            f"{', '.join(known)}. For BDHS set `mode='noise'`, which works for any model."
        )
    return {name: value.to(model.device) for name, value in inputs.items()}


def as_processed(
    processor: Any, requests: Sequence[Request], continued: Sequence[list[int]]
) -> dict[str, torch.Tensor]:
    """Inputs as the processor makes them, each row followed by its tokens."""
    images = [request.prompt.row["images"] for request in requests]
    inputs = processor(
        text=[request.prompt.text for request in requests],
        images=images if any(images) else None,
        padding=True,
        padding_side="left",
        add_special_tokens=bool(bos_ids(processor)),
        return_tensors="pt",
    )
    real = inputs.pop("attention_mask").bool()  # (B, P)
    per_token = {}
    for name in ("input_ids", "token_type_ids", "mm_token_type_ids"):
        if name in inputs:
            values = inputs.pop(name)
            per_token[name] = [
                torch.cat([row[keep], torch.tensor(ids if name == "input_ids" else [0] * len(ids)).long()])
                for row, keep, ids in zip(values, real, continued, strict=True)
            ]
    fill = {"input_ids": processor.tokenizer.pad_token_id}
    padded = {name: pad_left(rows, fill.get(name, 0)) for name, rows in per_token.items()}
    padded["attention_mask"] = pad_left([torch.ones_like(row) for row in per_token["input_ids"]])
    return {**inputs, **padded}


def as_embeddings(
    model: Any, processor: Any, requests: Sequence[Request], continued: Sequence[list[int]], positions: str
) -> dict[str, torch.Tensor]:
    """Inputs as embeddings, hidden image tokens dropped."""
    embed = model.get_input_embeddings()
    embeds, position_ids = [], []
    for request, follow in zip(requests, continued, strict=True):
        prompt = request.prompt
        keep = torch.ones(len(prompt.ids) + len(follow), dtype=torch.bool)
        if request.visible is not None:
            keep[: len(prompt.ids)][prompt.is_image] = request.visible
        ids = torch.cat([prompt.ids, torch.tensor(follow, dtype=torch.long)])
        row = embed(ids[keep].to(model.device))  # (T, H)
        is_image = torch.cat([prompt.is_image, torch.zeros(len(follow), dtype=torch.bool)])[keep]
        if is_image.any():
            row = row.clone()
            row[is_image.to(row.device)] = shown_features(model, processor, request).to(row.dtype)
        embeds.append(row)
        position_ids.append(keep.nonzero()[:, 0] if positions == "original" else torch.arange(len(row)))
    return {
        "inputs_embeds": pad_left(embeds),  # (B, T, H)
        "attention_mask": pad_left([torch.ones(len(row), dtype=torch.long) for row in embeds]),  # (B, T)
        "position_ids": pad_left(position_ids),  # (B, T)
    }


def shown_features(model: Any, processor: Any, request: Request) -> torch.Tensor:
    """Image features that a request shows, of shape `(visible.sum(), H)`; computed if its prompt keeps none yet."""
    prompt, visible = request.prompt, request.visible
    if prompt.kept is None:
        features = encoded_images(model, processor, prompt)
        return features if visible is None else features[visible.to(features.device)]
    if prompt.features is None:
        prompt.features = encoded_images(model, processor, prompt)[prompt.kept.to(model.device)]
    return prompt.features if visible is None else prompt.features[visible[prompt.kept].to(prompt.features.device)]


def encoded_images(model: Any, processor: Any, prompt: Prompt) -> torch.Tensor:
    """Features of a prompt's images, of shape `(num_image_tokens, H)`."""
    inputs = processor.image_processor(prompt.row["images"], return_tensors="pt").to(model.device)
    inputs = {name: inputs[name] for name in ("pixel_values", "image_sizes") if name in inputs}
    inputs["pixel_values"] = inputs["pixel_values"].to(model.dtype)
    features = torch.cat(list(model.get_image_features(**inputs).pooler_output))
    if len(features) != prompt.num_image_tokens:
        raise ValueError(
            f"The vision tower gives {len(features)} features but the processor counts {prompt.num_image_tokens} "
            "image tokens. Use the processor that belongs to the model."
        )
    return features


def pad_left(rows: list[torch.Tensor], value: int = 0) -> torch.Tensor:
    """Stack tensors of shapes `(T_i, ...)` to `(B, max T_i, ...)`, `value` in front of the shorter ones."""
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value, padding_side="left")
