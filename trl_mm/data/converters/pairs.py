"""The rows that converters return, and pairs out of several rated answers."""

from collections.abc import Iterable, Sequence
from itertools import combinations
from math import comb
from typing import Any

from .left_out import LeftOut
from .markers import marked_prompt, without_markers
from .values import text_of


Row = dict[str, Any]
TIE, NO_NUMBER = "tie", "ratings that are no numbers"


class MadeRows(list[Row]):
    """
    Rows that are made of one source row.

    Args:
        rows (`Iterable[dict[str, Any]]`): the rows.
        left_out (`Sequence[str]`, *optional*): reasons of pairs that the source row has, too, but which are none.
    """

    def __init__(self, rows: Iterable[Row] = (), left_out: Sequence[str] = ()):
        super().__init__(rows)
        self.left_out = tuple(left_out)


def pair(
    images: list[Any],
    prompt: str | list[dict[str, str]],
    chosen: Any,
    rejected: Any,
    *,
    row_id: Any = None,
    **known: Any,
) -> Row:
    """
    A preference row.

    Args:
        images (`list`):
            Images as they are stored.
        prompt (`str` or `list[dict[str, str]]`):
            Question, or messages with texts; `<image>` in them marks the place of an image.
        chosen, rejected (`str` or `dict`):
            Answers, or messages with them.
        row_id (`Any`, *optional*):
            What the dataset calls the row.
        known (`Any`):
            Columns of provenance.

    Raises:
        LeftOut: an answer is empty, or both are the same.
        TypeError: a text is none.
    """
    row = sft_row(images, prompt, chosen, row_id=row_id, **known)
    row["rejected"] = _answer(rejected, "rejected")
    if row["chosen"][0]["content"].strip() == row["rejected"][0]["content"].strip():
        raise LeftOut("both answers are the same")
    return row


def sft_row(
    images: list[Any], prompt: str | list[dict[str, str]], chosen: Any, *, row_id: Any = None, **known: Any
) -> Row:
    """A row without `rejected`; see [`pair`]."""
    messages = [{"role": "user", "content": text_of(prompt)}] if not isinstance(prompt, list) else prompt
    row = {
        **known,
        "images": images,
        "prompt": marked_prompt(messages, len(images)),
        "chosen": _answer(chosen, "chosen"),
    }
    return row if row_id is None else {**row, "row_id": str(row_id)}


def split_answer(messages: list[dict[str, str]]) -> tuple[list[dict[str, str]], str]:
    """
    The prompt and the answer of a conversation.

    Raises:
        ValueError: it does not end with an answer.
    """
    if not messages or messages[-1]["role"] != "assistant":
        raise ValueError("the conversation does not end with a turn of the assistant")
    return messages[:-1], messages[-1]["content"]


def shared_prompt(
    chosen: list[dict[str, str]], rejected: list[dict[str, str]]
) -> tuple[list[dict[str, str]], str, str]:
    """
    The prompt that two conversations share, and the answer that ends each. Markers of images may differ.

    Raises:
        ValueError: they differ before their last answers, or one does not end with an answer.
    """
    (prompt, answer), (other, worse) = split_answer(chosen), split_answer(rejected)
    if [_compared(message) for message in prompt] != [_compared(message) for message in other]:
        raise ValueError("the two conversations differ before their last answers")
    return prompt, answer, worse


def rated_pairs(
    answers: Sequence[dict[str, Any]], only_extremes: bool = False
) -> tuple[list[tuple[Row, Row]], list[str]]:
    """
    Answers by twos, the better one first.

    Args:
        answers (`Sequence[dict[str, Any]]`):
            Each with `rating`, a number, higher for better, or `None`: such an answer is in no pair.
        only_extremes (`bool`, *optional*, defaults to `False`):
            Whether to return the best against the worst alone, of equals the first.

    Returns:
        `tuple[list[tuple[Row, Row]], list[str]]`: the pairs, and why others are none: unless only the extremes count,
            a reason for each.

    Raises:
        LeftOut: there is no such pair.
    """
    rated = [answer for answer in answers if answer["rating"] is not None]
    if len(rated) < 2:
        raise LeftOut("fewer than two answers" if len(answers) < 2 else NO_NUMBER)
    if only_extremes:
        twos = [(max(rated, key=_rating), min(rated, key=_rating))]
    else:
        twos = [(max(two, key=_rating), min(two, key=_rating)) for two in combinations(rated, 2)]
    pairs = [(better, worse) for better, worse in twos if better["rating"] > worse["rating"]]
    if not pairs:
        raise LeftOut(TIE)
    if only_extremes:
        return pairs, []
    return pairs, [TIE] * (len(twos) - len(pairs)) + [NO_NUMBER] * (comb(len(answers), 2) - len(twos))


def rows_of(made: list[tuple[Any, ...]], row_id: Any = None, left_out: Sequence[str] = ()) -> MadeRows:
    """
    Rows of several pairs of one source row. Those that are no pairs are left out as long as one is left.

    Args:
        made (`list[tuple]`):
            Positional arguments and a dictionary of columns for [`pair`], for each.
        row_id (`Any`, *optional*):
            What the dataset calls the source row; the rows are numbered after it.
        left_out (`Sequence[str]`, *optional*):
            Why further pairs of it are none.

    Raises:
        LeftOut: none is a pair.
    """
    rows, reasons = [], []
    for number, (*arguments, known) in enumerate(made):
        try:
            own = None if row_id is None else f"{row_id}-{number}"
            rows.append(pair(*arguments, row_id=own, **known))
        except LeftOut as reason:
            reasons.append(reason)
    if not rows:
        raise reasons[0] if reasons else LeftOut("fewer than two answers")
    return MadeRows(rows, [*left_out, *map(str, reasons)])


def _answer(value: Any, name: str) -> list[dict[str, str]]:
    text = without_markers(text_of(value))
    if not text.strip():
        raise LeftOut(f"empty {name}")
    return [{"role": "assistant", "content": text}]


def _compared(message: dict[str, str]) -> tuple[str, str]:
    return message["role"], without_markers(message["content"]).strip()


def _rating(answer: dict[str, Any]) -> float:
    return answer["rating"]
