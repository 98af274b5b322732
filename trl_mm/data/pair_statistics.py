"""How pairs came about, counted in one way for the card, the report and the command that makes them."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from .rows import message_text
from .word_differences import WORD


@dataclass
class AttemptCount:
    """
    What became of the rows at one attempt of BDHS.

    Attributes:
        attempt (`int`): number of the attempt, from 1.
        made (`int`): rows for which it was made.
        kept (`int`): rows whose answer of this attempt was kept: different enough, or the last one.
        guided (`int`): those of the kept that sentences of the chosen answer guided.
        similarity (`float`, *optional*): mean similarity of the kept to the chosen answers, if rows say it.
    """

    attempt: int
    made: int = 0
    kept: int = 0
    guided: int = 0
    similarity: float | None = None


def count_attempts(rows: Iterable[Mapping[str, Any]]) -> list[AttemptCount]:
    """
    Count at which attempt rows got their rejected answer.

    Args:
        rows (`Iterable[Mapping[str, Any]]`):
            Rows with `bdhs_attempts`, and `bdhs_guided` and `bdhs_similarity` if known. Those without are not counted.

    Returns:
        `list[AttemptCount]`:
            One for each attempt that some row got its answer at, in order.
    """
    counts, sums = {}, {}
    for row in rows:
        attempt, similarity = number(row.get("bdhs_attempts")), number(row.get("bdhs_similarity"))
        if attempt is not None:
            count = counts.setdefault(attempt, AttemptCount(attempt))
            count.kept += 1
            count.guided += bool(row.get("bdhs_guided"))
            if similarity is not None:
                total, known = sums.get(attempt, (0.0, 0))
                sums[attempt] = total + similarity, known + 1
    made, ordered = sum(count.kept for count in counts.values()), []
    for attempt, count in sorted(counts.items()):
        count.made, made = made, made - count.kept
        if attempt in sums:
            count.similarity = sums[attempt][0] / sums[attempt][1]
        ordered.append(count)
    return ordered


def number(value: Any) -> float | None:
    """The value if it is a finite number, else `None`."""
    return value if isinstance(value, int | float) and math.isfinite(value) else None


def text_of(messages: Sequence[Mapping[str, Any]]) -> str:
    """Text of messages; where there are several, each after its role."""
    if len(messages) == 1:
        return message_text(messages[0]).strip()
    return "\n".join(f"{message['role']}: {message_text(message).strip()}" for message in messages)


def count_words(text: str) -> int:
    """Number of words of a text; a character of Chinese or Japanese is one."""
    return sum(1 for _ in WORD.finditer(text))


def answer_text(messages: Sequence[Mapping[str, Any]]) -> str:
    """Text of an answer: of its last message, if there are turns before it."""
    return text_of(messages[-1:])


def percentiles(values: Sequence[float], shares: Sequence[float] = (5, 50, 95)) -> list[float]:
    """Percentiles of values, each of them one that occurs."""
    return np.percentile(values, shares, method="nearest").tolist()


def histogram(values: Sequence[float], most: int = 12) -> list[tuple[str, int]]:
    """
    Count values in intervals with round bounds.

    Args:
        values (`Sequence[float]`):
            Finite numbers, at least one.
        most (`int`, *optional*, defaults to `12`):
            Most intervals.

    Returns:
        `list[tuple[str, int]]`:
            Bounds as text and counts. The upper bound belongs to the last interval only.
    """
    values = np.asarray(values, dtype=float)
    low, high = values.min(), values.max()
    if low == high:
        return [(f"{low:g}", len(values))]
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    for width in (step * power for step in (1, 2, 5, 10, 20, 50)):
        # Rounded: 0.6 / 0.05 is a little less than 12, and would be counted one interval too low
        places = np.round(values / width, 9)
        first, last = math.floor(places.min()), math.ceil(places.max())
        if last - first <= most:
            break
    counts = np.bincount(np.minimum(np.floor(places), last - 1).astype(int) - first, minlength=last - first)
    return [(f"{(first + i) * width:g} – {(first + i + 1) * width:g}", int(count)) for i, count in enumerate(counts)]


def wilson_interval(successes: int, trials: int, level: float = 0.95) -> tuple[float, float] | None:
    """
    Confidence interval of a share, by Wilson's score: unlike a bootstrap it has a width at 0 % and at 100 %.

    Args:
        successes (`int`): number of successes.
        trials (`int`): number of independent trials.
        level (`float`, *optional*, defaults to `0.95`): share of such intervals that should cover the true value.

    Returns:
        `tuple[float, float]` or `None`: lower and upper end; `None` without trials.
    """
    if not trials:
        return None
    z = NormalDist().inv_cdf((1 + level) / 2)
    share, scale = successes / trials, 1 + z**2 / trials
    centre = (share + z**2 / (2 * trials)) / scale
    half = z / scale * (share * (1 - share) / trials + z**2 / (4 * trials**2)) ** 0.5
    return max(0.0, centre - half), min(1.0, centre + half)
