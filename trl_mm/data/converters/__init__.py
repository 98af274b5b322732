"""From rows of published datasets to rows of the format: pure functions of one row."""

from collections.abc import Callable
from typing import Any

from .llava_instruct import llava_instruct
from .vl_rewardbench import vl_rewardbench


# Name for `--converter`
CONVERTERS = {
    "llava_instruct": llava_instruct,
    "vl_rewardbench": vl_rewardbench,
}


def find_converter(name: str | None) -> Callable[[dict[str, Any]], dict[str, Any]] | None:
    """
    Converter of a name.

    Args:
        name (`str` or `None`): key of `CONVERTERS`; `None` for rows that need none.

    Raises:
        ValueError: there is no such converter.
    """
    if name is not None and name not in CONVERTERS:
        raise ValueError(f"`converter` must be one of {', '.join(CONVERTERS)}, got {name!r}.")
    return None if name is None else CONVERTERS[name]


def likely_converter(row: dict[str, Any]) -> str | None:
    """Name of the converter (`str`) that a row as stored seems to be written for, `None` if for none."""
    turns = row.get("conversations")
    if (
        isinstance(turns, list)
        and turns
        and all(isinstance(turn, dict) and {"from", "value"} <= {*turn} for turn in turns)
    ):
        return "llava_instruct"
    return None
