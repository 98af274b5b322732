import math
import pickle
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tiny import tiny_model

from trl_mm.reward.combined import NormalizedReward, WeightedReward, measured
from trl_mm.reward.verifiable import LengthReward, ObjectsReward, YesNoReward


some_rewards = st.one_of(st.none(), st.just(math.nan), st.floats(-100, 100))


def said(text):
    return [{"role": "assistant", "content": text}]


def fixed(values, name="fixed"):
    def function(prompts, completions, **columns):
        assert len(prompts) == len(completions) == len(columns["images"])
        return values

    function.__name__ = name
    return function


def called(function, count):
    return function(prompts=["?"] * count, completions=["x"] * count, images=[[]] * count)


@given(st.lists(st.tuples(some_rewards, some_rewards), min_size=1, max_size=5), st.floats(-5, 5), st.floats(-5, 5))
def test_a_weighted_sum_leaves_out_who_says_nothing(given_rewards, first, second):
    functions = [fixed(list(values)) for values in zip(*given_rewards, strict=True)]
    sums = called(WeightedReward(dict(zip(functions, (first, second), strict=True))), len(given_rewards))
    for pair, total in zip(given_rewards, sums, strict=True):
        terms = [w * x for w, x in zip((first, second), pair, strict=True) if x is not None and not math.isnan(x)]
        assert total == (pytest.approx(math.fsum(terms), abs=1e-9) if terms else None)


@given(st.lists(st.integers(1, 20), min_size=2).filter(lambda counts: len(set(counts)) > 1))
def test_normalized_rewards_have_the_datasets_mean_and_deviation(counts):
    function = LengthReward(1, penalty=1)
    rows = [
        {"prompt": "?", "chosen": said("word " * a), "rejected": said("word " * b)}
        for a, b in zip(counts, counts[::-1], strict=True)
    ]
    mean, std = measured(function, rows, batch_size=3)
    scaled = NormalizedReward(function, mean, std)(["?"] * len(counts), [said("word " * count) for count in counts])
    assert statistics.fmean(scaled) == pytest.approx(0, abs=1e-9)
    assert statistics.pstdev(scaled) == pytest.approx(1)


def test_a_dataset_is_measured_with_its_columns():
    rows = [
        {"prompt": "?", "chosen": said("Yes."), "rejected": said("No."), "label": "yes"},
        {"prompt": "?", "chosen": said("Yes."), "rejected": None, "label": "yes"},
        {"prompt": "?", "completion": said("Yes."), "label": None},
    ]
    assert measured(YesNoReward(), rows) == pytest.approx((2 / 3, math.sqrt(2) / 3))


def test_names_and_what_is_pickled():
    normalized = NormalizedReward(ObjectsReward(), 0.5, 0.2)
    mixed = WeightedReward({normalized: 1, LengthReward(1): 0.1})
    assert (normalized.__name__, mixed.__name__) == ("objects", "weighted")
    for function in (normalized, mixed):
        columns = {"prompts": ["?"] * 2, "completions": ["A dog.", "Cat"], "objects": [["dog"], None]}
        assert pickle.loads(pickle.dumps(function))(**columns) == function(**columns)
    assert normalized(**columns) == [2.5, None]
    assert mixed(**columns) == pytest.approx([2.4, 0.0])


async def slow(completions, **columns):
    return [0.0] * len(completions)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WeightedReward({}), "`weights` is empty"),
        (lambda: WeightedReward({LengthReward(1): math.nan}), "The weight of `length` must be finite, got nan"),
        (lambda: WeightedReward({"objects": 1.0}), "must be a function, got str"),
        (lambda: WeightedReward({tiny_model(): 1.0}), "A model becomes one by `RewardModel"),
        (lambda: WeightedReward({slow: 1.0}), "`slow` is asynchronous"),
        (lambda: NormalizedReward(LengthReward(1), math.inf, 1), "`mean` must be finite"),
        (lambda: NormalizedReward(LengthReward(1), 0, 0), "`std` must be above 0 and finite, got 0"),
        (lambda: called(WeightedReward({fixed([1.0], "one"): 1}), 2), "`one` returned 1 rewards for 2 completions"),
        (lambda: measured(LengthReward(1), []), "`length` gave no answer of `rows` a reward"),
        (lambda: measured(LengthReward(1), [{"prompt": "?"}]), "one of chosen, rejected, completion"),
        (lambda: measured(LengthReward(1), [], batch_size=0), "`batch_size` must be at least 1"),
        (lambda: measured(YesNoReward(), [{"chosen": said("Yes")}]), "needs the column `label` or `answer`"),
        (
            lambda: measured(fixed([math.inf]), [{"chosen": said("Yes"), "images": []}]),
            "`fixed` gave infinite rewards",
        ),
    ],
)
def test_bad_rewards_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
