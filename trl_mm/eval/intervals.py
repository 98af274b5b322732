"""
Confidence intervals over images and training seeds. A metric here is a ratio of sums over images (hallucinated
mentions over mentions), so whole images are drawn again, with their numerator and their denominator, and never single
mentions: the mentions of one caption depend on one another.

What an interval covers: with one training seed, what these very weights would score on other images of the same kind.
Nothing is known of how another training run would differ, so two models whose intervals are apart need not differ by
their training method. With several seeds, what the method gives on average over training runs and images.
"""

from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike


BLOCK = 4_000_000  # drawn image numbers held in memory at a time: 32 MB


def ratio(numerators: ArrayLike, denominators: ArrayLike) -> float:
    """
    Pools a metric over images: the sum of the numerators over the sum of the denominators, 0.0 where that is zero.
    With several seeds or parts, the mean over all of these.

    Args:
        numerators (`ArrayLike` of shape `(num_images,)`, `(num_seeds, num_images)` or with parts between them):
            Count above the line for each image, such as hallucinated mentions. A metric of several parts is the mean
            of their ratios, as F1 over the files of POPE: shape `(num_seeds, num_parts, num_images)`.
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
    Confidence interval of [`ratio`]. With one training seed, by the percentile bootstrap: images are drawn with
    replacement, and the interval is the middle 95 % of what they give.

    With S >= 2 seeds, two things are drawn by chance, seeds and images, and a handful of seeds cannot be drawn again:
    a bootstrap of three covers anything between 91 % and 100 %. So, as where readers and cases are both samples
    (Obuchowski and Rockette 1995), the variance of the mean m of the S figures is taken apart into s²/S + c. s² is the
    variance of the figures, so s²/S is the doubt that each seed has by itself; c is the covariance of two seeds, by
    the bootstrap over images: what all have in common through their images (near zero where each seed has images of
    its own; a negative one counts as zero). The interval is m ± √(t² s²/S + z² c) (Graybill and Wang 1980): t is
    Student's with S - 1 degrees of freedom (4.3 at S = 3), as s² is known from S figures only, z the normal one. It
    is cut where no ratio can be. With two or three seeds it is wide, since they say little: show the seeds as well.

    Simulated, nominal 95 % intervals cover 92 to 95 % with one seed (of 100 to 500 images; 92 % where 3 % of the
    mentions are wrong and images are few) and 94 to 98 % with two or three (tests/eval/test_coverage.py).

    Args:
        numerators (`ArrayLike` of a shape as in [`ratio`]):
            Count above the line for each image.
        denominators (`ArrayLike` of the same shape):
            Count below the line for each image.
        level (`float`, *optional*, defaults to `0.95`):
            Share of such intervals that should cover the true value.
        resamples (`int`, *optional*, defaults to `2000`):
            Number of bootstrap samples.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the draws of images. Equal seeds give equal intervals.

    Returns:
        `tuple[float, float]`: lower and upper end.

    Raises:
        ValueError: the counts differ in shape, are negative or not finite, or a setting is out of range.
    """
    counts = _counts(numerators, denominators)[None]
    figures, draws = _seed_ratios(counts), _resampled_ratios(counts, level, resamples, seed)
    return _interval(figures[0], draws[0], level, 0.0, _largest(counts))


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
    bootstrap sample uses the same images for both, and a seed is compared with itself, so that what makes an image
    hard, or a seed good, for both cancels. Seeds are treated as in [`bootstrap_ratio`], the figure of a seed being its
    difference.

    Args:
        first (`tuple[ArrayLike, ArrayLike]`, each of a shape as in [`ratio`]):
            Numerators and denominators of the first model.
        second (`tuple[ArrayLike, ArrayLike]` of the same shapes):
            Numerators and denominators of the second model: the same images in the same order, and row s from the
            same seed as row s of `first`.
        level (`float`, *optional*, defaults to `0.95`):
            Share of such intervals that should cover the true difference.
        resamples (`int`, *optional*, defaults to `2000`):
            Number of bootstrap samples.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the draws of images.

    Returns:
        `tuple[float, float]`: lower and upper end.

    Raises:
        ValueError: as in [`bootstrap_ratio`], and if the two models have different shapes.
    """
    one, other = _counts(*first), _counts(*second)
    if one.shape != other.shape:
        raise ValueError(
            f"`first` has counts of shape {_shape(one)} and `second` {_shape(other)}: a paired difference needs both "
            "models on the same images and seeds."
        )
    counts = np.stack([one, other])
    figures, draws = _seed_ratios(counts), _resampled_ratios(counts, level, resamples, seed)
    largest = _largest(counts)
    return _interval(figures[0] - figures[1], draws[0] - draws[1], level, -largest, largest)


def _counts(numerators: ArrayLike, denominators: ArrayLike) -> np.ndarray:
    """Counts of shape `(2, num_seeds, num_parts, num_images)`: above and below the line."""
    above, below = (np.asarray(values, dtype=float) for values in (numerators, denominators))
    if above.shape != below.shape or not 1 <= above.ndim <= 3 or not above.size:
        raise ValueError(
            "`numerators` and `denominators` must have one shape, (num_images,), (num_seeds, num_images) or "
            f"(num_seeds, num_parts, num_images), and hold at least one image, got {above.shape} and {below.shape}."
        )
    counts = np.stack([above, below])
    if not (np.isfinite(counts).all() and (counts >= 0).all()):
        raise ValueError("`numerators` and `denominators` must be finite and not negative: they are counts per image.")
    seeds, parts = {1: (1, 1), 2: (above.shape[0], 1), 3: above.shape[:2]}[above.ndim]
    return counts.reshape(2, seeds, parts, above.shape[-1])


def _shape(counts: np.ndarray) -> tuple[int, ...]:
    """Shape without the sides of the line, and without parts where there is one."""
    _, seeds, parts, images = counts.shape
    return (seeds, images) if parts == 1 else (seeds, parts, images)


def _divide(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


def _largest(counts: np.ndarray) -> float:
    """The largest ratio that there can be: 1 where nothing counts above the line that does not count below it."""
    return 1.0 if (counts[:, 0] <= counts[:, 1]).all() else np.inf


def _seed_ratios(counts: np.ndarray) -> np.ndarray:
    """Figures of shape `(num_models, num_seeds)` from counts of models as [`_counts`] gives them, stacked."""
    return _divide(*np.moveaxis(counts.sum(axis=-1), 1, 0)).mean(axis=-1)


def _resampled_ratios(counts: np.ndarray, level: float, resamples: int, seed: int) -> np.ndarray:
    """The same on images drawn with replacement, alike for all: shape `(num_models, num_seeds, resamples)`."""
    if not 0 < level < 1:
        raise ValueError(f"`level` must be between 0 and 1, got {level}.")
    if resamples < 1:
        raise ValueError(f"`resamples` must be at least 1, got {resamples}.")
    images = counts.shape[-1]
    rng = np.random.default_rng(seed)
    ratios = []
    for start in range(0, resamples, max(1, BLOCK // images)):
        rows = min(max(1, BLOCK // images), resamples - start)  # R
        drawn = rng.integers(images, size=(rows, images)) + images * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * images).reshape(rows, images)  # (R, N)
        sums = np.moveaxis(counts @ times.T.astype(float), 1, 0)  # (2, M, S, P, R)
        ratios.append(_divide(*sums).mean(axis=2))  # (M, S, R)
    return np.concatenate(ratios, axis=-1)


def _interval(
    figures: np.ndarray, draws: np.ndarray, level: float, lowest: float, highest: float
) -> tuple[float, float]:
    """Interval of a mean over seeds from figures of shape `(num_seeds,)` and draws of `(num_seeds, resamples)`."""
    seeds = len(figures)
    if seeds == 1:
        low, high = np.quantile(draws[0], [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)
    alone = figures.var(ddof=1) / seeds
    covariances = np.cov(draws, ddof=0)  # (S, S)
    common = max(0.0, (covariances.sum() - covariances.trace()) / (seeds * (seeds - 1)))
    share = (1 + level) / 2
    half = np.sqrt(_t_quantile(share, seeds - 1) ** 2 * alone + NormalDist().inv_cdf(share) ** 2 * common)
    return float(max(lowest, figures.mean() - half)), float(min(highest, figures.mean() + half))


def _t_quantile(share: float, freedom: int) -> float:
    """Quantile of Student's t. With t = √ν · tan φ its density becomes cos^(ν-1) φ, of φ in (-π/2, π/2)."""
    angles = np.linspace(-np.pi / 2, np.pi / 2, 200_001)
    density = np.cos(angles).clip(0) ** (freedom - 1)
    below = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
    return float(np.sqrt(freedom) * np.tan(np.interp(share, below / below[-1], angles)))
