from statistics import fmean, pstdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trl_mm.eval.mmvet_scores import CAPABILITIES, mmvet_parts, mmvet_scores, read_grade


@pytest.mark.parametrize(
    ("reply", "grade"),
    [
        ("0.5", 0.5),
        ("1", 1.0),
        ("0.5 |", 0.5),
        ("0.5\n", 0.5),
        (".5", 0.5),
        (" 0.5", None),
        ("1.1", None),
        ("-0.1", None),
        ("nan", None),
        ("0.5|", None),
        ("Score", None),
        ("", None),
    ],
)
def test_the_first_word_is_a_number_from_0_to_1(reply, grade):
    assert read_grade(reply) == grade


def test_counted_by_hand():
    needs = [["ocr", "math"], ["math", "ocr"], ["ocr"], ["rec"]]
    result = mmvet_scores(list("aabc"), needs, [[1.0, 0.0], [0.5, 0.5], [0.0, 0.2], [None, None]])
    assert result["total"] == pytest.approx(100 * (0.5 + 0.5 + 0.1) / 3)
    assert result["runs"] == pytest.approx([50, 70 / 3])
    assert result["capabilities"] == pytest.approx({"ocr": 110 / 3, "math": 50})
    assert result["sets"] == pytest.approx({"ocr_math": 50, "ocr": 10})
    assert mmvet_parts(result) == ([1.0, 0.1, 0.0], [2, 1, 0])
    assert mmvet_parts(result, "math") == ([1.0, 0.0, 0.0], [2, 0, 0])


answers = st.lists(
    st.tuples(
        st.lists(st.sampled_from(CAPABILITIES), min_size=1, max_size=3),
        st.lists(st.integers(0, 10).map(lambda tenth: tenth / 10), min_size=3, max_size=3),
    ),
    min_size=1,
)


@given(answers)
def test_figures_are_means_over_answers_of_each_run(rows):
    result = mmvet_scores(["a"] * len(rows), [needs for needs, _ in rows], [grades for _, grades in rows])
    runs = [100 * fmean(grades[run] for _, grades in rows) for run in range(3)]
    assert result["runs"] == pytest.approx(runs)
    assert result["total"] == pytest.approx(fmean(runs))
    assert result["std"] == pytest.approx(pstdev(runs), abs=1e-9)
    for name, score in result["capabilities"].items():
        found = [grades for needs, grades in rows if name in needs]
        assert score == pytest.approx(100 * fmean(grade for grades in found for grade in grades))
    assert len(result["sets"]) == len({frozenset(needs) for needs, _ in rows})
    weights = [sum(frozenset(needs) == frozenset(name.split("_")) for needs, _ in rows) for name in result["sets"]]
    parts = [weight * score for weight, score in zip(weights, result["sets"].values(), strict=True)]
    assert sum(parts) / len(rows) == pytest.approx(result["total"])
