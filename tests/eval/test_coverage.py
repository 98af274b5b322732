"""How often nominal 95 % intervals cover the truth, on simulated captions whose truth is known.

Captions name 0 to 6 objects. Whether a mention is wrong is a matter of the image (some are hard for every model), of
the training seed, and of what a second model does otherwise in that seed; all are drawn on the scale of logits, where
0.1 and 0.3 between seeds are about 1.3 and 3.8 points of a CHAIR_i of 16 %. Coverage in 1,000 simulations (standard
error 0.7 points), of one model's figure / of the difference of two:

| seeds | images | wrong | between seeds | images of their own | covered |
|---|---|---|---|---|---|
| 1 | 100 | 16 % | - | - | 93.7 / 92.5 % (600 simulations) |
| 1 | 500 | 16 % | - | - | 94.3 / 94.2 % (600) |
| 1 | 100 | 3 % | - | - | 92.5 / 94.5 % (600) |
| 3 | 200 | 16 % | 0 | no | 97.6 / 95.2 % |
| 3 | 200 | 16 % | 0.1 | no | 97.0 / 96.0 % |
| 3 | 200 | 16 % | 0.3 | no | 95.1 / 95.9 % |
| 3 | 500 | 16 % | 0.1 | no | 96.4 / 95.6 % |
| 3 | 200 | 16 % | 0.1 | yes | 95.2 / 94.9 % |
| 3 | 200 | 16 % | 0.3 | yes | 94.3 / 95.1 % |
| 2 | 200 | 16 % | 0.2 | no | 96.9 / 96.5 % |

An interval of one seed says nothing of other trainings, whose mean it often misses (the last test).
"""

import numpy as np
import pytest

from trl_mm.eval.intervals import bootstrap_ratio, paired_difference


def share(logits):
    return 1 / (1 + np.exp(-logits))


def models(rng, seeds, images, between, own_images=False, base=-2.0, gain=-0.5):
    """Wrong mentions and mentions of two models, each of shape `(seeds, images)`."""
    hard = rng.standard_normal((seeds if own_images else 1, images))
    training, otherwise = between * rng.standard_normal((2, seeds, 1))
    return [
        (rng.binomial(mentions, share(base + hard + shift)), mentions)
        for shift in (training, training + gain + otherwise)
        for mentions in [rng.integers(0, 7, (seeds, images))]
    ]


def truths(between, base=-2.0, gain=-0.5):
    """What both models give on average over seeds and images."""
    hard, training, otherwise = np.random.default_rng(9).standard_normal((3, 400_000)) * [[1.0], [between], [between]]
    return share(base + hard + training).mean(), share(base + gain + hard + training + otherwise).mean()


def coverage(trials, between, **world):
    """Shares of intervals that cover the truth: of the first model, and of the difference of the second to it."""
    rng = np.random.default_rng(0)
    first, second = truths(between, world.get("base", -2.0))
    covered = np.zeros(2)
    for trial in range(trials):
        one, other = models(rng, between=between, **world)
        low, high = bootstrap_ratio(*one, resamples=200, seed=trial)
        covered[0] += low <= first <= high
        low, high = paired_difference(other, one, resamples=200, seed=trial)
        covered[1] += low <= second - first <= high
    return covered / trials


# 300 trials see 95 % as 91 to 99 % (three standard errors); few draws of the bootstrap take another point
@pytest.mark.parametrize(
    "world",
    [
        {"seeds": 1, "images": 100, "between": 0.0},
        {"seeds": 3, "images": 100, "between": 0.0},
        {"seeds": 3, "images": 100, "between": 0.3},
        {"seeds": 3, "images": 100, "between": 0.3, "own_images": True},
        {"seeds": 2, "images": 100, "between": 0.3},
    ],
)
def test_intervals_cover_the_truth(world):
    figure, difference = coverage(300, **world)
    assert 0.9 <= figure <= 0.995
    assert 0.9 <= difference <= 0.995


def test_the_interval_of_one_seed_does_not_cover_other_trainings():
    figure, difference = coverage(150, seeds=1, images=500, between=0.3)
    assert figure <= 0.75 and difference <= 0.75
