"""Models side by side on the same images, over one or several seeds (each may have images of its own)."""

from collections.abc import Mapping, Sequence
from typing import Any

from .benchmarks import BENCHMARKS
from .intervals import bootstrap_ratio, paired_difference, ratio


def metric_parts(scores: Mapping[str, Any]) -> dict[str, tuple[list, list]]:
    """
    What each metric divides by what, per image.

    Args:
        scores (`Mapping[str, Any]`): scores of one model, as `trl-mm eval` writes them.

    Returns:
        `dict[str, tuple[list, list]]`: for each metric the counts above and below the line, one per image; those of
        `pope_f1`, a mean of several ratios, have one row per category.
    """
    parts: dict[str, tuple[list, list]] = {}
    for name, benchmark in BENCHMARKS.items():
        if name in scores:
            parts |= benchmark.metric_parts(scores[name])
    return parts


def compare_models(
    models: Mapping[str, Sequence[Mapping[str, Any]]], *, first: str, second: str, seed: int = 0
) -> dict[str, Any]:
    """
    Means over seeds with intervals, the figures of each seed, and differences of models on the same images.

    Args:
        models (`Mapping[str, Sequence[Mapping[str, Any]]]`): for each model the scores of its training seeds, the same
            seeds in the same order for all models.
        first (`str`): model that is compared.
        second (`str`): model that all are compared with.
        seed (`int`, *optional*, defaults to `0`): seed of the bootstrap.

    Returns:
        `dict[str, Any]`: for each model, its metrics (means over seeds, shares in [0, 1]), their 95 % `intervals`, and
        under `"seeds"`, for each metric its value for each training seed; for each model but `second`, under
        `"difference"`, for each metric that both have the 95 % interval of the model minus `second`. At the top,
        `"difference"` is that of `first`, where it may be `second` itself.
    """
    parts = {name: _stack([metric_parts(scores) for scores in seeds]) for name, seeds in models.items()}

    def difference(name: str) -> dict[str, tuple[float, float]]:
        shared = {metric: counts for metric, counts in parts[name].items() if metric in parts[second]}
        return {
            metric: paired_difference(counts, parts[second][metric], seed=seed) for metric, counts in shared.items()
        }

    result: dict[str, Any] = {}
    for name, metrics in parts.items():
        result[name] = {
            **{metric: ratio(*counts) for metric, counts in metrics.items()},
            "intervals": {metric: bootstrap_ratio(*counts, seed=seed) for metric, counts in metrics.items()},
            "seeds": {
                metric: [ratio(*counts) for counts in zip(*sides, strict=True)] for metric, sides in metrics.items()
            },
        }
        if name != second:
            result[name]["difference"] = difference(name)
    return {**result, "difference": difference(first)}


def _stack(seeds: Sequence[Mapping[str, tuple[list, list]]]) -> dict[str, tuple[list, list]]:
    """Counts of shape `(num_seeds, num_images)`, above and below the line, for each metric."""
    shared = [name for name in seeds[0] if all(name in part for part in seeds)]
    return {name: ([part[name][0] for part in seeds], [part[name][1] for part in seeds]) for name in shared}
