"""How right a reward model is on preference pairs, how sure of it, and how far length alone would go."""

import math
from collections.abc import Mapping, Sequence
from typing import Any


NUM_BINS = 10  # of equal width, from 0.5 to 1
# How long the chosen answer is beside the rejected one, by the difference as a share of the longer one
LENGTH_BUCKETS = ("much_shorter", "shorter", "same_length", "longer", "much_longer")


def measure_pairs(margins: Sequence[float], lengths: Sequence[tuple[float, float]] | None = None) -> dict[str, Any]:
    """
    Measures of the scores of preference pairs.

    Args:
        margins (`Sequence[float]`): score of the chosen answer less that of the rejected one. Equal scores and NaN are
            wrong, as in TRL's accuracy.
        lengths (`Sequence[tuple[float, float]]`, *optional*): tokens of the chosen and of the rejected answer.

    Returns:
        `dict`: `num_pairs`, `accuracy`, `ece` ([`calibration_error`]) and `reliability` ([`reliability`]). With
        lengths also `longer_wins`, the accuracy of the rule that the longer answer is better, which tosses a coin
        where both are as long; `longer_preferred`, the share of the pairs of different lengths in which the longer
        answer has the higher score; and `by_length`, a `dict` from each of `LENGTH_BUCKETS` that has pairs to their
        `num_pairs` and `accuracy`.

    Raises:
        ValueError: there are no pairs, or not as many lengths.
    """
    if not margins:
        raise ValueError("There are no pairs to measure.")
    margins = [0.0 if math.isnan(margin) else float(margin) for margin in margins]
    table = reliability(margins)
    measures = {
        "num_pairs": len(margins),
        "accuracy": share(margin > 0 for margin in margins),
        "ece": calibration_error(table),
        "reliability": table,
    }
    if lengths is None:
        return measures
    longer = [_sign(chosen - rejected) for chosen, rejected in lengths]
    buckets: dict[str, list[bool]] = {name: [] for name in LENGTH_BUCKETS}
    for margin, (chosen, rejected) in zip(margins, lengths, strict=True):
        buckets[length_bucket(chosen, rejected)].append(margin > 0)
    uneven = [_sign(margin) == sign for margin, sign in zip(margins, longer, strict=True) if sign]
    return {
        **measures,
        "longer_wins": share((1 + sign) / 2 for sign in longer),
        "longer_preferred": share(uneven) if uneven else None,
        "by_length": {
            name: {"num_pairs": len(right), "accuracy": share(right)} for name, right in buckets.items() if right
        },
    }


def reliability(margins: Sequence[float]) -> list[dict[str, Any]]:
    """
    Table of a reliability diagram (Guo et al. 2017, arXiv 1706.04599, eq. 2): pairs binned by confidence, the
    probability `sigmoid(abs(margin))` that the Bradley-Terry model gives the answer with the higher score. It is at
    least 0.5.

    Args:
        margins (`Sequence[float]`): score of the chosen answer less that of the rejected one.

    Returns:
        `list[dict]`: for each of `NUM_BINS` bins `low` and `high`, `num_pairs`, and the means `confidence` and
        `accuracy`, `None` in an empty one.
    """
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(NUM_BINS)]
    for margin in margins:
        confidence = 1 / (1 + math.exp(-abs(margin)))
        # (low, high], as in the paper; 0.5 itself belongs to the first one
        place = math.ceil((confidence - 0.5) * 2 * NUM_BINS) - 1
        bins[min(max(place, 0), NUM_BINS - 1)].append((confidence, margin > 0))
    return [
        {
            "low": 0.5 + place / (2 * NUM_BINS),
            "high": 0.5 + (place + 1) / (2 * NUM_BINS),
            "num_pairs": len(pairs),
            "confidence": share(confidence for confidence, _ in pairs) if pairs else None,
            "accuracy": share(right for _, right in pairs) if pairs else None,
        }
        for place, pairs in enumerate(bins)
    ]


def calibration_error(table: Sequence[Mapping[str, Any]]) -> float:
    """
    Expected calibration error (Guo et al. 2017, eq. 3): distance of accuracy and confidence, over the bins of
    [`reliability`] weighted by their pairs.

    Args:
        table (`Sequence[Mapping]`): what [`reliability`] returns.

    Returns:
        `float`: from 0 to 1.
    """
    pairs = sum(row["num_pairs"] for row in table)
    return sum(
        row["num_pairs"] / pairs * abs(row["accuracy"] - row["confidence"]) for row in table if row["num_pairs"]
    )


def length_bucket(chosen: float, rejected: float) -> str:
    """
    Which of `LENGTH_BUCKETS` a pair is in: the chosen answer is much longer from twice as long on, much shorter up to
    half as long, and as long if they differ by a tenth of the longer one at most.

    Args:
        chosen (`float`): tokens of the chosen answer.
        rejected (`float`): tokens of the rejected answer.

    Returns:
        `str`
    """
    difference = (chosen - rejected) / max(chosen, rejected, 1)
    if abs(difference) <= 0.1:
        return "same_length"
    return ("much_" if abs(difference) >= 0.5 else "") + ("longer" if difference > 0 else "shorter")


def metrics_of(measures: Mapping[str, Any]) -> dict[str, float]:
    """
    The measures that are numbers, by the names under which they are logged.

    Args:
        measures (`Mapping`): what [`measure_pairs`] returns.

    Returns:
        `dict[str, float]`: `accuracy`, `ece`, and with lengths `longer_wins`, `longer_preferred` and
        `accuracy_chosen_…` for each of `LENGTH_BUCKETS` that has pairs.
    """
    names = ("accuracy", "ece", "longer_wins", "longer_preferred")
    found = {name: measures[name] for name in names if measures.get(name) is not None}
    by_length = measures.get("by_length", {})
    return found | {f"accuracy_chosen_{name}": part["accuracy"] for name, part in by_length.items()}


def share(values: Any) -> float:
    """Mean (`float`) of some values, such as of what is true among them."""
    values = list(values)
    return math.fsum(values) / len(values)


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)
