import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.published import published

from trl_mm.eval.pope_scores import pope_scores, published_yes_no


yes_no = st.sampled_from(["yes", "no"])


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("A cat, not a dog.", "no"),
        ("Yes. There is no cat.", "yes"),
        ("NO", "yes"),
        ("", "yes"),
        ("no,", "no"),
    ],
)
def test_published_yes_no(answer, expected):
    assert published_yes_no(answer) == expected


def test_published_yes_no_is_that_of_the_published_script():
    rows = json.loads(published("golden/pope_answer_reading.json").read_text())["rows"]
    assert [published_yes_no(row["answer"]) for row in rows] == [row["official_reading"] for row in rows]


def test_scores_counted_by_hand():
    answers = ["Yes.", "No.", "Yes.", "Yes.", "Perhaps.", "Perhaps.", "No.", "Yes."]
    labels = ["yes", "yes", "no", "yes", "yes", "no", "no", "no"]
    assert pope_scores(answers, labels) == {
        "accuracy": 3 / 8,
        "precision": 2 / 4,
        "recall": 2 / 4,
        "f1": 1 / 2,
        "predicted_yes_share": 4 / 8,
        "reading": "strict",
        "unreadable": 2,
        "correct": [1, 0, 0, 1, 0, 0, 1, 0],
        "predicted_yes": [1, 0, 1, 1, 0, 0, 0, 1],
        "labelled_yes": [1, 1, 0, 1, 1, 0, 0, 0],
    }
    result = pope_scores(answers, labels, reading="published")  # each "Perhaps." is a yes
    assert (result["precision"], result["recall"], result["f1"]) == (3 / 6, 3 / 4, 6 / 10)
    assert (result["unreadable"], result["predicted_yes_share"]) == (2, 6 / 8)


def test_always_yes_is_a_predicted_yes_share_of_one():
    result = pope_scores(["yes"] * 10, ["yes", "no"] * 5)
    assert (result["predicted_yes_share"], result["accuracy"], result["recall"]) == (1.0, 0.5, 1.0)


def test_no_positive_answer_and_no_positive_label():
    result = pope_scores(["no", "eh"], ["no", "no"])
    assert (result["precision"], result["recall"], result["f1"], result["accuracy"]) == (0.0, 0.0, 0.0, 0.5)


@given(st.lists(st.tuples(yes_no, yes_no), min_size=1))
def test_scores_agree_with_their_definitions(pairs):
    answers, labels = zip(*pairs, strict=True)
    result = pope_scores(answers, labels)
    assert result["accuracy"] == pytest.approx(sum(answer == label for answer, label in pairs) / len(pairs))
    assert sum(result["correct"]) / len(pairs) == result["accuracy"]
    precision, recall = result["precision"], result["recall"]
    assert result["f1"] == pytest.approx(2 * precision * recall / (precision + recall) if precision + recall else 0)


@pytest.mark.parametrize(
    ("answers", "labels", "message"),
    [([], [], "got 0 and 0"), (["yes"], [], "got 1 and 0"), (["yes"], ["Yes"], "must be yes or no, got 'Yes'")],
)
def test_bad_scores(answers, labels, message):
    with pytest.raises(ValueError, match=message):
        pope_scores(answers, labels)


def test_an_unknown_reading_lists_the_known_ones():
    with pytest.raises(ValueError, match="one of strict, published, got 'lax'"):
        pope_scores(["yes"], ["yes"], reading="lax")
