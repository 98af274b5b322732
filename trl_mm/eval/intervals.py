"""
Bootstrap confidence intervals over images. A metric here is a ratio of sums over images (hallucinated mentions over
mentions), so whole images are drawn again, with their numerator and their denominator, and never single mentions: the
mentions of one caption depend on one another.
"""

import numpy as np
from numpy.typing import ArrayLike


BLOCK = 4_000_000  # drawn image numbers held in memory at a time: 32 MB


def ratio(numerators: ArrayLike, denominators: ArrayLike) -> float:
    """
    Pools a metric over images: the sum of the numerators over the sum of the denominators, 0.0 where that is zero.
    With several seeds, the mean over the seeds of these.

    Args:
        numerators (`ArrayLike` of shape `(num_images,)` or `(num_seeds, num_images)`):
            Count above the line for each image, such as hallucinated mentions.
        denominators (`ArrayLike` of the same shape):
            Count below the line, such as mentions.

    Returns:
        `float`
    """
    counts = _counts(numerators, denominators)
    return float(_divide(*counts.sum(axis=-1)).mean())


def bootstrap_ratio(
    numerators: ArrayLike, denominators: ArrayLike, *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """
    Confidence interval of [`ratio`], by the percentile bootstrap.

    With one row of counts, images are drawn with replacement. With S >= 2 rows, one per training seed on the same
    images, images are drawn for all seeds alike, and S - 1 seeds are drawn with replacement: the interval then also
    covers what another training run would have given. (Averaging over the seeds and drawing images only would be
    an interval for these very models. Drawing S seeds would understate the variance between seeds by (S - 1) / S, a
    third at S = 3; S - 1 draws make it unbiased.) With a handful of seeds it is still rough: show the seeds as well.

    Args:
        numerators (`ArrayLike` of shape `(num_images,)` or `(num_seeds, num_images)`):
            Count above the line for each image.
        denominators (`ArrayLike` of the same shape):
            Count below the line for each image.
        level (`float`, *optional*, defaults to `0.95`):
            Share of such intervals that should cover the true value.
        resamples (`int`, *optional*, defaults to `2000`):
            Number of bootstrap samples.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the draws. Equal seeds give equal intervals.

    Returns:
        `tuple[float, float]`: lower and upper end.

    Raises:
        `ValueError`: if the counts differ in shape, are negative or not finite, or a setting is out of range.
    """
    draws = _resampled_ratios(_counts(numerators, denominators)[None], level, resamples, seed)
    return _percentiles(draws[0], level)


def paired_difference(
    first: tuple[ArrayLike, ArrayLike],
    second: tuple[ArrayLike, ArrayLike],
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """
    Confidence interval of the ratio of `first` minus the ratio of `second`, two models on the same images. Every
    bootstrap sample uses the same images, and the same seeds, for both, so that what makes an image hard for both
    cancels. Seeds are treated as in [`bootstrap_ratio`].

    Args:
        first (`tuple[ArrayLike, ArrayLike]`, each of shape `(num_images,)` or `(num_seeds, num_images)`):
            Numerators and denominators of the first model.
        second (`tuple[ArrayLike, ArrayLike]` of the same shapes):
            Numerators and denominators of the second model: the same images in the same order, and row s from the
            same seed as row s of `first`.
        level (`float`, *optional*, defaults to `0.95`):
            Share of such intervals that should cover the true difference.
        resamples (`int`, *optional*, defaults to `2000`):
            Number of bootstrap samples.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the draws.

    Returns:
        `tuple[float, float]`: lower and upper end.

    Raises:
        `ValueError`: as in [`bootstrap_ratio`], and if the two models have different shapes.
    """
    counts = [_counts(*model) for model in (first, second)]
    if counts[0].shape != counts[1].shape:
        raise ValueError(
            f"`first` has counts of shape {counts[0].shape[1:]} and `second` {counts[1].shape[1:]}: a paired "
            "difference needs both models on the same images and seeds."
        )
    draws = _resampled_ratios(np.stack(counts), level, resamples, seed)
    return _percentiles(draws[0] - draws[1], level)


def _counts(numerators: ArrayLike, denominators: ArrayLike) -> np.ndarray:
    above, below = (np.atleast_2d(np.asarray(values, dtype=float)) for values in (numerators, denominators))
    if above.shape != below.shape or above.ndim != 2 or not above.size:
        raise ValueError(
            f"`numerators` and `denominators` must have one shape, (num_images,) or (num_seeds, num_images), and hold "
            f"at least one image, got {np.shape(numerators)} and {np.shape(denominators)}."
        )
    counts = np.stack([above, below])  # (2, S, N)
    if not (np.isfinite(counts).all() and (counts >= 0).all()):
        raise ValueError("`numerators` and `denominators` must be finite and not negative: they are counts per image.")
    return counts


def _divide(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


def _resampled_ratios(counts: np.ndarray, level: float, resamples: int, seed: int) -> np.ndarray:
    """Ratios of shape `(num_models, resamples)` from counts of shape `(num_models, 2, num_seeds, num_images)`."""
    if not 0 < level < 1:
        raise ValueError(f"`level` must be between 0 and 1, got {level}.")
    if resamples < 1:
        raise ValueError(f"`resamples` must be at least 1, got {resamples}.")
    seeds, images = counts.shape[2:]
    rng = np.random.default_rng(seed)
    ratios = []
    for start in range(0, resamples, max(1, BLOCK // images)):
        rows = min(max(1, BLOCK // images), resamples - start)  # R
        drawn = rng.integers(images, size=(rows, images)) + images * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * images).reshape(rows, images)  # (R, N)
        per_seed = _divide(*np.moveaxis(counts @ times.T.astype(float), 1, 0))  # (M, S, R)
        chosen = rng.integers(seeds, size=(max(1, seeds - 1), rows))  # (S - 1, R)
        ratios.append(np.take_along_axis(per_seed, chosen[None], axis=1).mean(axis=1))  # (M, R)
    return np.concatenate(ratios, axis=1)


def _percentiles(draws: np.ndarray, level: float) -> tuple[float, float]:
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
