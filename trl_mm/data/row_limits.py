"""What no row may hold, whatever its columns are: texts that cannot be written, and values without end."""

from typing import Any

from .shown import shown


MAX_DEPTH = 32  # lists and dictionaries inside one another; messages with images take six
MAX_IMAGES = 256  # of a row; that many fill the context of any model
MAX_CHARACTERS = 1_000_000  # of a prompt or an answer; some 250,000 tokens


def value_error(value: Any) -> str | None:
    """
    What is wrong with a value of a row.

    Args:
        value (`Any`):
            The value; one that holds itself has no end either.

    Returns:
        `str` or `None`:
            The end of a sentence that begins with the name of the value, with the cure.
    """
    waiting = [(value, 0)]
    while waiting:
        item, depth = waiting.pop()
        if isinstance(item, str):
            if not _is_encodable(item):
                around = shown(repr(_around_surrogate(item)))
                return f"holds half of a character (a lone surrogate): {around}. Write all of it, or remove it"
        elif isinstance(item, dict | list | tuple):
            if depth == MAX_DEPTH:
                return f"is nested deeper than {MAX_DEPTH} levels. Flatten it, or remove it"
            inner = [*item.keys(), *item.values()] if isinstance(item, dict) else item
            waiting += [(part, depth + 1) for part in inner if isinstance(part, str | dict | list | tuple)]
    return None


def _is_encodable(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _around_surrogate(text: str) -> str:
    place = next(index for index, character in enumerate(text) if "\ud800" <= character <= "\udfff")
    return text[max(0, place - 40) : place + 40]
