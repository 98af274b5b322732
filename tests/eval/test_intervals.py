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


def test_mentions_of_one_caption_are_not_independent():
    # Each caption is all right or all wrong: 40 independent draws, not 400.
    wrong = np.repeat([0, 10], 20)
    low, high = bootstrap_ratio(wrong, np.full(40, 10))
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.25 / 40), rel=0.15)


def test_seeds_on_images_that_are_all_alike_give_the_interval_of_students_t():
    # 0.2, 0.3, 0.4: mean 0.3, deviation 0.1, t of two degrees of freedom 4.302653
    low, high = bootstrap_ratio([[2] * 30, [3] * 30, [4] * 30], [[10] * 30] * 3)
    half = 4.302653 * 0.1 / np.sqrt(3)
    assert (low, high) == pytest.approx((0.3 - half, 0.3 + half), abs=1e-6)
    # Of two seeds hardly anything is known: t is 12.7, and the interval is cut at what a share can be
    assert bootstrap_ratio([[1] * 30, [2] * 30], [[5] * 30] * 2) == (0.0, 1.0)
    assert bootstrap_ratio([[9] * 30, [1] * 30], [[5] * 30] * 2)[1] > 1.0  # counts that are no share have no upper end


@pytest.mark.parametrize(
    ("freedom", "level", "expected"), [(1, 0.95, 12.706205), (4, 0.9, 2.131847), (9, 0.99, 3.249836)]
)
def test_quantiles_of_students_t(freedom, level, expected):
    assert intervals._t_quantile((1 + level) / 2, freedom) == pytest.approx(expected, abs=1e-5)


def test_equal_seeds_leave_the_doubt_of_their_common_images():
    counts = captions(np.random.default_rng(0), 400, 0.3)
    low, high = bootstrap_ratio(*counts)
    both = bootstrap_ratio(*(np.stack([side] * 3) for side in counts))
    assert both == pytest.approx((low, high), abs=0.1 * (high - low))


def test_images_of_their_own_leave_what_the_seeds_show():
    rng = np.random.default_rng(0)
    above, below = captions(rng, (40, 300), 0.3)
    figures = above.sum(axis=1) / below.sum(axis=1)
    low, high = bootstrap_ratio(above, below)
    expected = 2 * 2.0227 * figures.std(ddof=1) / np.sqrt(40)  # t of 39 degrees of freedom
    assert high - low == pytest.approx(expected, rel=0.15)


def test_parts_are_averaged_on_the_same_images():
    rng = np.random.default_rng(0)
    one, other = captions(rng, 200, 0.2), captions(rng, 200, 0.6)
    above, below = (np.stack(sides)[None] for sides in zip(one, other, strict=True))
    assert ratio(above, below) == pytest.approx((ratio(*one) + ratio(*other)) / 2)
    low, high = bootstrap_ratio(above, below)
    assert low < ratio(above, below) < high
    # The same part twice is that part alone
    twice = [np.stack([side, side])[None] for side in one]
    assert bootstrap_ratio(*twice) == pytest.approx(bootstrap_ratio(*one))
    # and parts on independent counts are less in doubt
    alone = [bootstrap_ratio(*part) for part in (one, other)]
    assert high - low < 0.85 * max(end - start for start, end in alone)
    assert paired_difference((above, below), (above, below)) == (0.0, 0.0)


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


@pytest.mark.parametrize(
    ("numerators", "denominators", "options", "message"),
    [
        ([], [], {}, r"at least one image, got \(0,\)"),
        ([1, 2], [1], {}, r"got \(2,\) and \(1,\)"),
        ([[[[1]]]], [[[[1]]]], {}, r"got \(1, 1, 1, 1\)"),
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
