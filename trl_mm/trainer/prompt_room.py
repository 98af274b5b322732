"""Prompts that answers are sampled to: each leaves room for the longest one, in `max_length` and in the model."""

import logging
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import AutoConfig

from ..tokens.fit_report import FitReport


logger = logging.getLogger(__name__)


def context_of(model: Any, trust_remote_code: bool = False, revision: str | None = None) -> int | None:
    """Positions (`int`) that a model, or that of an id or path, was made for; `None` if it does not say."""
    if isinstance(model, str):
        config = AutoConfig.from_pretrained(model, trust_remote_code=trust_remote_code, revision=revision)
    else:
        config = model.config
    return getattr(config.get_text_config(), "max_position_embeddings", None)


def rows_with_room(
    dataset: Dataset,
    report: FitReport,
    max_new_tokens: int,
    max_length: int | None = None,
    context: int | None = None,
    overlong: str = "drop",
) -> Dataset:
    """
    Drop or refuse rows whose prompt is too long for an answer. Prompts are never cut.

    Args:
        dataset (`datasets.Dataset`): rows in the row format.
        report ([`FitReport`]): their tokens.
        max_new_tokens (`int`): tokens of the longest answer.
        max_length (`int`, *optional*): longest sequence in tokens.
        context (`int`, *optional*): positions of the model.
        overlong (`str`, *optional*, defaults to `"drop"`): `"drop"` or `"error"`.

    Raises:
        ValueError: with `overlong="error"` if a prompt is too long; with `"drop"` if all are.
    """
    limits = {"`max_length`": max_length, "the context of the model": context}
    named = {name: limit for name, limit in limits.items() if limit is not None}
    if not named:
        return dataset
    name = min(named, key=lambda name: named[name])
    lengths, room = report.counts.prompt, named[name] - max_new_tokens
    too_long = lengths > room
    if not too_long.any():
        return dataset
    cure = "raise `max_length`, " if name == "`max_length`" else ""
    found = (
        f"{too_long.sum()} of {len(dataset)} rows of the {report.name} dataset have a prompt of more than {room} "
        f"tokens, which is {name} ({named[name]}) less `max_completion_length` ({max_new_tokens}); the longest has "
        f"{lengths.max()} (row {lengths.argmax()})"
    )
    if overlong == "error" or too_long.all():
        raise ValueError(
            f"{found}. Prompts are never cut: {cure}lower `max_completion_length`, use smaller images, or set "
            "`overlong='drop'` to train without the rows that do not fit."
        )
    logger.warning(f"{found}; they are dropped.")
    return dataset.select(np.flatnonzero(~too_long))
