"""How the judge's replies of MMHal-Bench are read and summed up, as its script does."""

from collections.abc import Mapping, Sequence
from typing import Any

from .judged import counted, per_image


TYPES = ("attribute", "adversarial", "comparison", "counting", "relation", "environment", "holistic", "other")
"""The types of questions in the order in which the rows go round."""
NUM_QUESTIONS = 96
_LEAST_FAITHFUL = 3  # of 6: the lowest rating without hallucination


def read_rating(reply: str) -> int | None:
    """
    Reads a rating as published: each of `rating: 0` to `rating: 6` is looked for, in any case, and exactly one must be
    found, however often. So "Rating: 3.5" is 3, and "**Rating**: 3" is not read.

    Args:
        reply (`str`): what the judge wrote.

    Returns:
        `int` from 0 to 6; `None` where the published script takes 0 because it finds none, or several.
    """
    found = [rating for rating in range(7) if f"rating: {rating}" in reply.lower()]
    return found[0] if len(found) == 1 else None


def types_by_order(num_rows: int) -> list[str | None]:
    """Types of rows (`list[str | None]`) in the published order: there are 96; of other numbers nothing is known."""
    return [TYPES[index % len(TYPES)] if num_rows == NUM_QUESTIONS else None for index in range(num_rows)]


def mmhal_scores(types: Sequence[str | None], images: Sequence[str], replies: Sequence[str | None]) -> dict[str, Any]:
    """
    Sums up the judge's replies.

    Args:
        types (`Sequence[str | None]`): type of each question.
        images (`Sequence[str]`): image of each question.
        replies (`Sequence[str | None]`): what the judge wrote; `None` is not judged, and left out.

    Returns:
        `dict`: `ratings` (`list[int | None]`, 0 to 6), `images` and `types` as given, `by_type`, the mean rating of
        each type, and `unreadable` (`int`): replies without a rating, which count as 0, as published.
    """
    read = [None if reply is None else read_rating(reply) for reply in replies]
    ratings = [None if reply is None else one or 0 for reply, one in zip(replies, read, strict=True)]
    by_type = {}
    for name in dict.fromkeys(type_ for type_ in types if type_ is not None):
        found = [rating for rating, type_ in zip(ratings, types, strict=True) if type_ == name and rating is not None]
        by_type[name] = sum(found) / len(found) if found else None
    return {
        "ratings": ratings,
        "images": list(images),
        "types": list(types),
        "by_type": by_type,
        "unreadable": sum(one is None and reply is not None for one, reply in zip(read, replies, strict=True)),
    }


def mmhal_parts(result: Mapping[str, Any]) -> dict[str, tuple[list[float], list[float]]]:
    """
    What the figures divide by what, per image.

    Args:
        result (`Mapping[str, Any]`): what [`mmhal_scores`] gives.

    Returns:
        `dict`: `score`, the mean rating; `hallucination_rate`, the share of ratings below 3; `informativeness`, the
        mean of what a rating exceeds 3 by, as a share of 3, as RLAIF-V's copy of the script has it.
    """
    ratings, images = result["ratings"], result["images"]
    judged = per_image(images, counted(ratings))

    def part(value):
        return per_image(images, [None if rating is None else value(rating) for rating in ratings]), judged

    return {
        "score": part(float),
        "hallucination_rate": part(lambda rating: float(rating < _LEAST_FAITHFUL)),
        "informativeness": part(lambda rating: max(rating - _LEAST_FAITHFUL, 0) / _LEAST_FAITHFUL),
    }
