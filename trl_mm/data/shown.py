"""Values from data in messages: short, and without characters that a terminal obeys."""

from collections.abc import Iterable
from typing import Any


MAX_SHOWN = 200  # characters of a value in a message
_MAX_NAMES = 20


def shown(value: Any, most: int = MAX_SHOWN) -> str:
    """
    Text of a value for a message. What cannot be printed, such as escape sequences or half of an emoji, is escaped.

    Args:
        value (`Any`):
            Text, or anything with a `repr`.
        most (`int`, *optional*, defaults to `200`):
            Most characters of the text; of a longer one, the beginning and the end are given.

    Returns:
        `str`:
            Text on one line.
    """
    text = value if isinstance(value, str) else _repr(value)
    if len(text) > most:
        half = most // 2
        text = f"{text[:half]} … {len(text) - 2 * half:,} more characters … {text[-half:]}"
    return printable(text)


def _repr(value: Any) -> str:
    try:
        return repr(value)
    except RecursionError:
        return f"a {type(value).__name__} nested very deeply"


def shown_names(names: Iterable[Any]) -> str:
    """Names of columns or files for a message, separated by commas; of many, the first ones."""
    names = list(names)
    rest = f", and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return ", ".join(shown(name if isinstance(name, str) else str(name)) for name in names[:_MAX_NAMES]) + rest


def printable(text: str, keep: str = "") -> str:
    """The text with what cannot be printed escaped, apart from characters in `keep`."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() or character in keep else character.encode("unicode_escape").decode()
        for character in text
    )
