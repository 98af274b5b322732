"""Models side by side on the same images, over one or several seeds (each may have images of its own)."""

from .intervals import bootstrap_ratio, paired_difference, ratio
from .pope_categories import pope_parts


def metric_parts(scores):
    """
    What each metric divides by what, per image.

    Args:
        scores (`dict`): scores of one model, as `trl-mm eval` writes them.

    Returns:
        `dict[str, (list, list)]`: for each metric the counts above and below the line, one per image; those of
        `pope_f1`, a mean of several ratios, have one row per category.
    """
    parts = {}
    if "chair" in scores:
        counts = scores["chair"]["counts"]
        parts["chair_i"] = counts["hallucinated"], counts["mentions"]
        parts["chair_s"] = counts["any_hallucinated"], [1] * len(counts["mentions"])
        parts["recall"] = counts["named"], counts["annotated"]
        if "prior" in counts:
            parts["prior_share"] = counts["prior"], counts["mentions"]
    if "pope" in scores:
        parts |= pope_parts(scores["pope"])
    return parts


def compare(models, *, first, second, seed=0):
    """
    Means over seeds with intervals, the figures of each seed, and differences of models on the same images.

    Args:
        models (`dict[str, list[dict]]`): for each model the scores of its training seeds, the same seeds in the same
            order for all models.
        first (`str`): model that is compared.
        second (`str`): model that all are compared with.
        seed (`int`, *optional*, defaults to `0`): seed of the bootstrap.

    Returns:
        `dict`: for each model, its metrics (means over seeds, shares in [0, 1]), their 95 % `intervals`, and under
        `"seeds"`, for each metric its value for each training seed; for each model but `second`, under
        `"difference"`, for each metric that both have the 95 % interval of the model minus `second`. At the top,
        `"difference"` is that of `first`, where it may be `second` itself.
    """
    parts = {name: _stack([metric_parts(scores) for scores in seeds]) for name, seeds in models.items()}

    def difference(name):
        shared = {metric: counts for metric, counts in parts[name].items() if metric in parts[second]}
        return {
            metric: paired_difference(counts, parts[second][metric], seed=seed) for metric, counts in shared.items()
        }

    result = {}
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


def _stack(seeds):
    """Counts of shape `(num_seeds, num_images)`, above and below the line, for each metric."""
    return {name: tuple([part[name][side] for part in seeds] for side in (0, 1)) for name in seeds[0]}
