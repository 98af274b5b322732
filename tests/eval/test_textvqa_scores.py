import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.published import published

from trl_mm.eval.textvqa_scores import normalized_answer, textvqa_accuracy


@pytest.mark.parametrize(
    ("answer", "normalized"),
    [
        ("The dog.", "dog"),
        ("10,000", "10000"),
        ("Coca-Cola", "coca cola"),
        ("x - y-z", "x yz"),
        ("3.5 in.", "3.5 in"),
        ("5. street", "5 street"),
        ("King's", "king 's"),
        ("dont", "don't"),
        ("Im", "im"),
        ("somebody'd", "somebodyd"),
        ("none", "0"),
        ("a", ""),
        ("x" + "." * 40, "x" + "." * 8),
        ("one\ntwo\tten", "1 2 10"),
    ],
)
def test_answers_are_normalized(answer, normalized):
    assert normalized_answer(answer) == normalized


def test_answers_are_normalized_as_by_the_published_scorer():
    golden = json.loads(published("golden/textvqa/normalisation.json").read_text())
    rows = [row for part in golden.values() if isinstance(part, list) for row in part]
    assert len(rows) == 303
    assert [normalized_answer(row["answer"]) for row in rows] == [row["normalised"] for row in rows]


@pytest.mark.parametrize(("agree", "accuracy"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (10, 1.0)])
def test_a_third_for_each_reference_that_agrees(agree, accuracy):
    references = ["Red."] * agree + [f"other {number}" for number in range(10 - agree)]
    assert textvqa_accuracy("red", references) == pytest.approx(accuracy)


@given(st.sampled_from("abc"), st.lists(st.sampled_from("abcd"), min_size=1, max_size=12))
def test_accuracy_is_that_of_leaving_each_reference_out(answer, references):
    answer, references = f"{answer}x", [f"{reference}x" for reference in references]
    left_out = [[*references[:place], *references[place + 1 :]] for place in range(len(references))]
    expected = sum(min(1, others.count(answer) / 3) for others in left_out) / len(references)
    assert textvqa_accuracy(answer, references) == pytest.approx(expected)
