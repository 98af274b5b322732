from fractions import Fraction
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trl_mm.eval.sign_test import SignTest, sign_test


def test_counts_and_known_values():
    assert sign_test([1, 1, 0, 0, 1], [1, 0, 1, 0, 0]) == SignTest(gained=2, lost=1)
    # 10 heads of 12: R's binom.test(10, 12)$p.value
    assert SignTest(10, 2).p_value == SignTest(2, 10).p_value == pytest.approx(0.03857421875, abs=0)
    assert SignTest(0, 0).p_value == SignTest(3, 3).p_value == 1.0
    assert SignTest(6, 0).p_value == 2 / 64


@given(st.integers(0, 60), st.integers(0, 60))
def test_is_twice_the_binomial_tail(gained, lost):
    n = gained + lost
    tail = sum(Fraction(comb(n, count), 2**n) for count in range(min(gained, lost) + 1))
    assert SignTest(gained, lost).p_value == float(min(1, 2 * tail))


def test_thousands_of_questions_neither_underflow_nor_overflow():
    assert 0 < SignTest(1_700, 1_500).p_value < 0.001
    assert SignTest(2_000, 0).p_value == 0.0 or SignTest(2_000, 0).p_value < 1e-300
    assert SignTest(5_000, 5_000).p_value == 1.0


def test_other_questions_are_refused():
    with pytest.raises(ValueError, match="same questions"):
        sign_test([1], [1, 0])
