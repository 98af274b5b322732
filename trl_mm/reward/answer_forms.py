"""Answers in the form in which verifiable rewards compare them."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from ..data.rows import message_text
from ..data.shown import shown


def answer_text(completion: str | Sequence[Mapping[str, Any]]) -> str:
    """Text of an answer, which TRL gives as messages, or as text where prompts are text."""
    if isinstance(completion, str):
        return completion
    return message_text(dict(completion[-1])) if completion else ""


def as_list(value: Any) -> list[Any]:
    """The values of a row that has one or several."""
    return list(value) if isinstance(value, list | tuple | set | frozenset) else [value]


def as_text(value: Any) -> str:
    """
    An accepted answer as text.

    Raises:
        ValueError: it is neither text nor a number.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return f"{value:.15g}" if isinstance(value, float) else str(value)
    raise ValueError(f"{shown(value, 100)} is neither text nor a number. Write an answer, a list of them, or `None`.")


def normalized(answer: str) -> str:
    """
    The form in which answers are compared: without case, marks of punctuation, symbols and articles. Points and signs
    of numbers stay ("3.5", "-2"), commas between thousands do not. An answer of nothing else ("A", "+") stays.

    Args:
        answer (`str`): an answer.

    Returns:
        `str`
    """
    text = unicodedata.normalize("NFKC", answer).casefold()
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))|(?<=\w)['’](?=\w)", "", text)
    of_numbers = {match.start() for match in re.finditer(r"(?<=\d)\.(?=\d)|(?<!\w)-(?=\d)", text)}
    # By category and not by \w, which leaves out the vowel signs of Hindi and Thai
    marks = {index for index, sign in enumerate(text) if unicodedata.category(sign)[0] in "PS"} - of_numbers
    words = "".join(" " if index in marks else sign for index, sign in enumerate(text)).split()
    return " ".join([word for word in words if word not in ("a", "an", "the")] or words or text.split())
