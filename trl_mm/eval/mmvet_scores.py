"""How grades of MM-Vet are read and summed up, as its evaluator does."""

from collections.abc import Mapping, Sequence
from math import fsum, sqrt
from typing import Any

from .judged import counted, per_image


CAPABILITIES = ("rec", "ocr", "know", "gen", "spat", "math")

Grades = Sequence[float | None]  # of one answer, one for each run


def read_grade(reply: str) -> float | None:
    """
    Reads a grade as published: what stands before the first space, as a number from 0 to 1.

    Args:
        reply (`str`): what the judge wrote.

    Returns:
        `float`; `None` where there is none, and the judge is to be asked again.
    """
    try:
        grade = float(reply.split(" ")[0].strip())
    except ValueError:
        return None
    return grade if 0.0 <= grade <= 1.0 else None


def mmvet_scores(
    images: Sequence[str], capabilities: Sequence[Sequence[str] | None], grades: Sequence[Grades]
) -> dict[str, Any]:
    """
    Sums up grades.

    Args:
        images (`Sequence[str]`): image of each question.
        capabilities (`Sequence[Sequence[str] | None]`): what each question needs; `None` where that is not known.
        grades (`Sequence[Sequence[float | None]]`): of each answer, one for each run; `None` is not judged, and left
            out.

    Returns:
        `dict`: `total` (0 to 100), `runs`, the total of each run, `std`, their standard deviation (of the runs as a
        population, as published); `capabilities` and `sets`, from each capability and each exact set of them
        ("ocr_math") to its mean over answers and runs; `means` (`list[float | None]`, 0 to 1), of each answer over its
        runs; `images` and `needs` as given.
    """
    means = [_mean(one) for one in grades]
    runs = [100 * mean for mean in map(_mean, zip(*grades, strict=True)) if mean is not None]
    total = _mean(runs)
    by_capability: dict[str, list[float]] = {}
    by_set: dict[frozenset[str], list[float]] = {}
    names: dict[frozenset[str], str] = {}
    for needs, mean in zip(capabilities, means, strict=True):
        if needs is None or mean is None:
            continue
        for name in dict.fromkeys(needs):
            by_capability.setdefault(name, []).append(mean)
        names.setdefault(frozenset(needs), "_".join(dict.fromkeys(needs)))
        by_set.setdefault(frozenset(needs), []).append(mean)
    return {
        "total": total or 0.0,
        "runs": runs,
        "std": sqrt(fsum((run - (total or 0.0)) ** 2 for run in runs) / len(runs)) if runs else 0.0,
        "capabilities": _percent(by_capability),
        "sets": _percent({names[needs]: found for needs, found in by_set.items()}),
        "means": means,
        "images": list(images),
        "needs": [None if needs is None else list(needs) for needs in capabilities],
    }


def mmvet_parts(result: Mapping[str, Any], capability: str | None = None) -> tuple[list[float], list[float]]:
    """
    Sums of grades, and numbers of answers, per image.

    Args:
        result (`Mapping[str, Any]`): what [`mmvet_scores`] gives.
        capability (`str`, *optional*): of `CAPABILITIES`; all by default.
    """
    wanted = [capability is None or capability in (needs or ()) for needs in result["needs"]]
    means = [mean if use else None for mean, use in zip(result["means"], wanted, strict=True)]
    return per_image(result["images"], means), per_image(result["images"], counted(means))


def _mean(values: Sequence[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return fsum(found) / len(found) if found else None


def _percent(values: Mapping[str, list[float]]) -> dict[str, float]:
    """Means in percent, of the most frequent first."""
    order = sorted(values, key=lambda name: -len(values[name]))
    return {name: 100 * fsum(values[name]) / len(values[name]) for name in order}
