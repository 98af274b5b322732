"""How reviews of LLaVA-Bench are read and summed up, as LLaVA's scripts do."""

from collections.abc import Mapping, Sequence
from math import fsum
from typing import Any

from .judged import per_image


UNREADABLE = [-1.0, -1.0]
LARGEST = 1e9  # no scale goes further, and sums stay finite
CATEGORIES = ("conv", "detail", "complex")

Pair = list[float]  # scores of GPT-4's answer and of the model's


def read_pair(review: str) -> Pair:
    """
    Reads the two scores in the first line of a review, as published: commas are spaces, and there must be exactly two
    parts, each a number. So "8, 9" is not read, as there are two spaces in it then.

    Args:
        review (`str`): what the judge wrote.

    Returns:
        `list[float]`: score of GPT-4's answer and of the model's; `[-1.0, -1.0]` where there are none, which enters
        the means of the published script. So do we take infinities and the like, which would spoil them.
    """
    parts = review.split("\n")[0].replace(",", " ").split(" ")
    try:
        first, second = map(float, parts)
    except ValueError:
        return list(UNREADABLE)
    return [first, second] if abs(first) <= LARGEST and abs(second) <= LARGEST else list(UNREADABLE)


def relative_score(pairs: Sequence[Pair]) -> dict[str, float]:
    """
    The mean score of the model as a percentage of GPT-4's.

    Args:
        pairs (`Sequence[list[float]]`): what [`read_pair`] gives.

    Returns:
        `dict[str, float]`: `relative` in percent, with one digit, from means of three digits, as published; these
        means as `reference` and `model`. `relative` is 0.0 where there is nothing to divide by. Of nothing but
        unreadable reviews it is 100, as published: -1 of -1.
    """
    reference, model = (round(fsum(pair[side] for pair in pairs) / (len(pairs) or 1), 3) for side in (0, 1))
    return {
        "relative": round(model / reference * 100, 1) if reference else 0.0,
        "reference": reference,
        "model": model,
    }


def llava_bench_scores(
    categories: Sequence[str | None], images: Sequence[str], pairs: Sequence[Pair | None]
) -> dict[str, Any]:
    """
    Scores reviews by category and over all of them, which is not the mean of the categories.

    Args:
        categories (`Sequence[str | None]`): of each question, such as `"llava_bench_conv"`.
        images (`Sequence[str]`): image of each question.
        pairs (`Sequence[list[float] | None]`): what [`read_pair`] gives; `None` for what was not judged and is left
            out.

    Returns:
        `dict`: `scores`, from category (`"all"`, and those given) to what [`relative_score`] gives; `pairs`, `images`
        and `categories` as given; `unreadable` (`int`).
    """
    judged = [(category, pair) for category, pair in zip(categories, pairs, strict=True) if pair is not None]
    by_category: dict[str, list[Pair]] = {"all": [pair for _, pair in judged]}
    for category in sorted({category for category in categories if category not in (None, "all")}):
        by_category[category] = [pair for name, pair in judged if name == category]
    return {
        "scores": {name: relative_score(found) for name, found in by_category.items()},
        "pairs": list(pairs),
        "images": list(images),
        "categories": list(categories),
        "unreadable": sum(pair == UNREADABLE for _, pair in judged),
    }


def nothing_read(result: Mapping[str, Any]) -> bool:
    """Whether all reviews of a result of [`llava_bench_scores`] are unreadable, whose relative score means nothing."""
    return result["unreadable"] > 0 and result["unreadable"] == sum(pair is not None for pair in result["pairs"])


def relative_parts(result: Mapping[str, Any], category: str | None = None) -> tuple[list[float], list[float]]:
    """
    Sums of scores above and below the line, per image: the model's and GPT-4's.

    Args:
        result (`Mapping[str, Any]`): what [`llava_bench_scores`] gives.
        category (`str`, *optional*): of `CATEGORIES`; all by default.

    Returns:
        `tuple[list[float], list[float]]`
    """
    wanted = [category is None or name in (category, f"llava_bench_{category}") for name in result["categories"]]
    pairs = [pair if use else None for pair, use in zip(result["pairs"], wanted, strict=True)]
    reference, model = (
        _not_negative(per_image(result["images"], [pair and pair[side] for pair in pairs])) for side in (0, 1)
    )
    return model, reference


def _not_negative(sums: list[float]) -> list[float]:
    """The same total without a sum below zero, which one of -1 may give: what is lacking is taken from the others."""
    positive = [max(0.0, value) for value in sums]
    if positive == sums:
        return sums
    share = max(0.0, fsum(sums)) / (fsum(positive) or 1.0)
    return [value * share for value in positive]
