"""Card, report and command count the same, whatever the rows hold."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trl_mm.data.pair_statistics import AttemptCount, count_attempts, count_words, histogram, text_of


def test_attempts_are_counted_with_what_was_kept_at_each():
    rows = [
        {"bdhs_attempts": attempt, "bdhs_guided": attempt < 5, "bdhs_similarity": similarity}
        for attempt, similarity in ((1, 0.5), (5, 0.99), (1, 0.7), (2, None))
    ]
    assert count_attempts(iter(rows)) == [
        AttemptCount(1, made=4, kept=2, guided=2, similarity=0.6),
        AttemptCount(2, made=2, kept=1, guided=1, similarity=None),
        AttemptCount(5, made=1, kept=1, guided=0, similarity=0.99),
    ]


def test_rows_that_do_not_say_their_attempts_are_not_counted():
    assert count_attempts([{}, {"bdhs_attempts": None}, {"bdhs_attempts": "1"}, {"bdhs_attempts": math.inf}]) == []
    assert count_attempts([{"bdhs_attempts": 10**9}]) == [AttemptCount(10**9, made=1, kept=1)]


def test_words_are_counted_in_any_script():
    assert count_words("A dog, isn't it? 3.5") == 6 and count_words("红色的圆。") == 4 and count_words("") == 0


def test_messages_as_text():
    image, question = {"type": "image"}, {"type": "text", "text": "What is this? "}
    assert text_of([{"role": "user", "content": [image, question]}]) == "What is this?"
    turns = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]
    assert text_of(turns) == "user: Hi.\nassistant: Hello."


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=30))
def test_a_histogram_counts_every_value_once(values):
    bars = histogram(values)
    assert sum(count for _, count in bars) == len(values)
    assert len(bars) <= 12
    assert bars[0][1] and bars[-1][1]


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([0.3, 0.3], ["0.3"]),
        ([0.0, 1.0], ["0 – 0.1", "0.9 – 1"]),
        ([0.1, 0.3], ["0.1 – 0.12", "0.28 – 0.3"]),
        ([0.6, 0.96], ["0.6 – 0.65", "0.95 – 1"]),
        ([-1.0, 1.0], ["-1 – -0.8", "0.8 – 1"]),
    ],
)
def test_bounds_are_round(values, names):
    bars = histogram(values)
    assert [name for name, count in bars if count] == names
