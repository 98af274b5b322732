import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trl_mm.reward.measures import LENGTH_BUCKETS, length_bucket, measure_pairs, metrics_of


margins_of = st.lists(st.floats(-800, 800), min_size=1, max_size=60)


@given(margins_of)
def test_the_calibration_error_is_that_of_the_papers_definition(margins):
    """Guo et al. 2017: bins ((m - 1) / M, m / M] of the probability of what is predicted, written out with numpy."""
    measures = measure_pairs(margins)
    scores = np.array(margins)
    confidence = 1 / (1 + np.exp(-np.abs(scores)))
    edges = np.linspace(0.5, 1, 11)
    expected = 0.0
    for row, low, high in zip(measures["reliability"], edges[:-1], edges[1:], strict=True):
        inside = (confidence > low) & (confidence <= high) if low > 0.5 else confidence <= high
        assert (row["low"], row["high"]) == pytest.approx((low, high))
        assert row["num_pairs"] == inside.sum()
        if inside.any():
            right = (scores[inside] > 0).mean()
            assert (row["accuracy"], row["confidence"]) == pytest.approx((right, confidence[inside].mean()))
            expected += inside.mean() * abs(right - confidence[inside].mean())
        else:
            assert row["accuracy"] is row["confidence"] is None
    assert measures["ece"] == pytest.approx(expected, abs=1e-9)
    assert measures["accuracy"] == pytest.approx((scores > 0).mean())
    assert 0 <= measures["ece"] <= 1


def test_a_calibrated_model_has_no_error_and_a_boastful_one_has():
    generator = random.Random(0)
    sizes = [generator.uniform(0, 3) for _ in range(20_000)]
    calibrated = [size if generator.random() < 1 / (1 + math.exp(-size)) else -size for size in sizes]
    assert measure_pairs(calibrated)["ece"] < 0.02
    boastful = measure_pairs([10 * margin for margin in calibrated])
    assert boastful["ece"] > 0.15 and boastful["accuracy"] == measure_pairs(calibrated)["accuracy"]
    assert measure_pairs([1000.0, -1000.0])["ece"] == 0.5


@given(st.lists(st.tuples(st.floats(-5, 5), st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=40))
def test_what_length_alone_would_reach(pairs):
    lengths = [(chosen, rejected) for _, chosen, rejected in pairs]
    measures = measure_pairs([margin for margin, _, _ in pairs], lengths)
    points = [1.0 if chosen > rejected else 0.5 if chosen == rejected else 0.0 for chosen, rejected in lengths]
    assert measures["longer_wins"] == pytest.approx(sum(points) / len(points))
    uneven = [(margin, chosen - rejected) for margin, chosen, rejected in pairs if chosen != rejected]
    if uneven:
        agreed = [margin * difference > 0 for margin, difference in uneven]
        assert measures["longer_preferred"] == pytest.approx(sum(agreed) / len(agreed))
    else:
        assert measures["longer_preferred"] is None and "longer_preferred" not in metrics_of(measures)
    for name in LENGTH_BUCKETS:
        there = [margin > 0 for margin, *sizes in pairs if length_bucket(*sizes) == name]
        part = measures["by_length"].get(name)
        assert part == ({"num_pairs": len(there), "accuracy": sum(there) / len(there)} if there else None)
    by_length = measures["by_length"].values()
    whole = sum(part["num_pairs"] * part["accuracy"] for part in by_length) / len(pairs)
    assert whole == pytest.approx(measures["accuracy"])


@pytest.mark.parametrize(
    ("chosen", "rejected", "name"),
    [
        (10, 20, "much_shorter"),
        (11, 20, "shorter"),
        (9, 10, "same_length"),
        (0, 0, "same_length"),
        (10, 9, "same_length"),
        (10, 8, "longer"),
        (20, 10, "much_longer"),
        (3, 0, "much_longer"),
    ],
)
def test_buckets(chosen, rejected, name):
    assert length_bucket(chosen, rejected) == name
    mirrored = {"much_shorter": "much_longer", "shorter": "longer", "same_length": "same_length"}
    mirrored |= {there: here for here, there in mirrored.items()}
    assert length_bucket(rejected, chosen) == mirrored[name]


def test_equal_scores_and_missing_ones_are_wrong():
    measures = measure_pairs([0.0, math.nan, 1.0])
    assert measures["accuracy"] == pytest.approx(1 / 3) and measures["reliability"][0]["num_pairs"] == 2
    assert set(metrics_of(measures)) == {"accuracy", "ece"}
    with pytest.raises(ValueError, match="no pairs"):
        measure_pairs([])
    with pytest.raises(ValueError):
        measure_pairs([1.0, 2.0], [(1, 2)])
