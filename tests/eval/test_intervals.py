import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trl_mm.eval import intervals
from trl_mm.eval.intervals import bootstrap_ratio, paired_difference, ratio


def captions(rng, shape, rate):
    """Hallucinated mentions and mentions of captions; the share varies from image to image, with mean `rate`."""
    mentions = rng.integers(0, 7, shape)
    return rng.binomial(mentions, rng.beta(2 * rate, 2 * (1 - rate), shape)), mentions


counts = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=20).map(
    lambda rows: tuple(np.array([(min(row), max(row)) for row in rows]).T)
)


def test_ratio():
    assert ratio([1, 0, 2], [2, 1, 3]) == 3 / 6
    assert ratio([[1, 0], [1, 1]], [[1, 1], [1, 1]]) == 0.75
    assert ratio([0, 0], [0, 0]) == 0.0


@given(counts)
def test_the_interval_lies_between_the_extremes(counts):
    low, high = bootstrap_ratio(*counts, resamples=100)
    shares = [above / below if below else 0 for above, below in zip(*counts, strict=True)]
    assert min(shares) <= low <= high <= max(shares)


def test_images_that_are_all_alike_leave_no_doubt():
    assert bootstrap_ratio([1] * 50, [4] * 50) == (0.25, 0.25)
    assert bootstrap_ratio([0] * 50, [0] * 50) == (0.0, 0.0)


def test_equal_seeds_give_equal_intervals():
    counts = captions(np.random.default_rng(0), 100, 0.3)
    assert bootstrap_ratio(*counts, seed=3) == bootstrap_ratio(*counts, seed=3) != bootstrap_ratio(*counts, seed=4)


def test_blocks_change_nothing(monkeypatch):
    counts = captions(np.random.default_rng(0), 100, 0.3)
    whole = bootstrap_ratio(*counts, resamples=501)
    monkeypatch.setattr(intervals, "BLOCK", 1000)
    assert bootstrap_ratio(*counts, resamples=501) == whole
    monkeypatch.setattr(intervals, "BLOCK", 1)
    assert bootstrap_ratio(*counts, resamples=501) == whole


def test_a_higher_level_is_a_wider_interval():
    counts = captions(np.random.default_rng(0), 200, 0.3)
    low, high = bootstrap_ratio(*counts)
    lower, higher = bootstrap_ratio(*counts, level=0.99)
    assert lower < low < ratio(*counts) < high < higher


def test_coverage():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(300):
        low, high = bootstrap_ratio(*captions(rng, 100, 0.3), resamples=300, seed=trial)
        covered += low <= 0.3 <= high
    assert 0.90 <= covered / 300 <= 0.98


def test_mentions_of_one_caption_are_not_independent():
    # Each caption is all right or all wrong: 40 independent draws, not 400.
    wrong = np.repeat([0, 10], 20)
    low, high = bootstrap_ratio(wrong, np.full(40, 10))
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.25 / 40), rel=0.15)


def test_seeds_are_drawn_too():
    # All images alike, so all doubt is between the seeds.
    assert bootstrap_ratio([[1] * 30, [2] * 30], [[5] * 30] * 2) == pytest.approx((0.2, 0.4))
    # One of the two seeds at a time: of the mean of two, the middle half would be 0.3.
    assert bootstrap_ratio([[1] * 30, [2] * 30], [[5] * 30] * 2, level=0.3) == pytest.approx((0.2, 0.4))
    assert bootstrap_ratio([[0] * 30, [3] * 30, [6] * 30], [[10] * 30] * 3) == pytest.approx((0.0, 0.6))


def test_coverage_over_seeds():
    rng = np.random.default_rng(0)
    covered = covered_by_these_models = 0
    for trial in range(200):
        rates = 0.3 + 0.05 * rng.standard_normal((8, 1))
        numerators = rng.binomial(5, np.broadcast_to(rates, (8, 200)))
        denominators = np.full((8, 200), 5)
        low, high = bootstrap_ratio(numerators, denominators, resamples=300, seed=trial)
        covered += low <= 0.3 <= high
        low, high = bootstrap_ratio(numerators.mean(axis=0), denominators.mean(axis=0), resamples=300, seed=trial)
        covered_by_these_models += low <= 0.3 <= high
    assert covered / 200 >= 0.85
    assert covered_by_these_models / 200 <= 0.6  # what averaging over the seeds first would claim


@given(counts, st.integers(0, 99))
def test_identical_models_differ_by_exactly_nothing(counts, seed):
    assert paired_difference(counts, counts, resamples=50, seed=seed) == (0.0, 0.0)


def test_identical_models_with_seeds_differ_by_exactly_nothing():
    counts = captions(np.random.default_rng(0), (3, 40), 0.3)
    assert paired_difference(counts, counts) == (0.0, 0.0)


@given(counts, st.integers(0, 99))
def test_swapping_the_models_turns_the_sign(counts, seed):
    numerators, denominators = counts
    other = (numerators[::-1], denominators[::-1])
    low, high = paired_difference(counts, other, resamples=50, seed=seed)
    assert paired_difference(other, counts, resamples=50, seed=seed) == pytest.approx((-high, -low))


def test_pairing_takes_out_what_is_hard_for_both():
    rng = np.random.default_rng(0)
    hard, mentions = captions(rng, 300, 0.4)
    better = np.maximum(hard - (rng.random(300) < 0.1), 0)
    low, high = paired_difference((better, mentions), (hard, mentions))
    assert low < ratio(better, mentions) - ratio(hard, mentions) < high < 0
    alone = bootstrap_ratio(hard, mentions)
    assert high - low < 0.5 * (alone[1] - alone[0])


def test_coverage_of_a_paired_difference():
    rng = np.random.default_rng(1)
    covered = 0
    for trial in range(300):
        first, second = captions(rng, 100, 0.2), captions(rng, 100, 0.3)
        low, high = paired_difference(first, second, resamples=300, seed=trial)
        covered += low <= -0.1 <= high
    assert 0.90 <= covered / 300 <= 0.98


@pytest.mark.parametrize(
    ("numerators", "denominators", "options", "message"),
    [
        ([], [], {}, r"at least one image, got \(0,\)"),
        ([1, 2], [1], {}, r"got \(2,\) and \(1,\)"),
        ([[[1]]], [[[1]]], {}, r"got \(1, 1, 1\)"),
        ([-1], [1], {}, "not negative"),
        ([1], [float("nan")], {}, "finite"),
        ([1], [1], {"level": 95}, "`level` must be between 0 and 1, got 95"),
        ([1], [1], {"resamples": 0}, "`resamples` must be at least 1, got 0"),
    ],
)
def test_bad_arguments(numerators, denominators, options, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_ratio(numerators, denominators, **options)


def test_models_on_different_images():
    with pytest.raises(ValueError, match=r"shape \(1, 2\) and `second` \(1, 3\)"):
        paired_difference(([1, 1], [1, 1]), ([1, 1, 1], [1, 1, 1]))
