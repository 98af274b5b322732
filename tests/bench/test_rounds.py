import pytest

from trl_mm.bench.rounds import Rounds, alternate, speed_ratio


def test_contenders_take_turns_and_change_who_begins():
    calls = []
    timed = alternate({name: lambda name=name: calls.append(name) or len(calls) for name in "ab"}, rounds=3, warmup=1)
    assert "".join(calls) == "baabbaab"
    assert timed["a"].results == [2, 3, 6, 7]
    assert len(timed["a"].seconds) == len(timed["b"].seconds) == 3


def test_the_ratio_is_that_of_rounds_that_stood_beside_each_other():
    ratio, spread = speed_ratio(Rounds(seconds=[1.0, 2.0, 4.0]), Rounds(seconds=[2.0, 6.0, 6.0]))
    assert (ratio, spread) == (2.0, [1.5, 3.0])


def test_no_round_is_an_error():
    with pytest.raises(ValueError, match="`rounds` must be at least 1, got 0"):
        alternate({}, rounds=0)
