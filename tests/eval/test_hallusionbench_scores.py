import pytest

from trl_mm.eval.hallusionbench_scores import all_right, hallusion_correctness, hallusion_groups, is_correct


def row(category, figure, question="0", visual_input="1"):
    keys = {"category": category, "subcategory": "chart", "set_id": "3", "figure_id": figure}
    return {**keys, "question_id": question, "visual_input": visual_input}


@pytest.mark.parametrize(
    ("answer", "label", "correctness"),
    [
        ("Yes, it is.", 1, 1),
        ("Yes, it is.", 0, 0),
        ("no", 0, 1),
        (" 1\n", 1, 1),
        ("0", 1, 0),
        ("2", 1, 2),
        ("It is larger.", 1, None),
        ("", 0, None),
    ],
)
def test_answers_are_read_without_a_judge(answer, label, correctness):
    assert hallusion_correctness(answer, label) == correctness


def test_being_uncertain_is_right_where_there_is_no_figure():
    assert [is_correct(row("VS", "0"), found) for found in (1, 2, 0, None)] == [1, 1, 0, 0]
    assert [is_correct(row("VS", "1"), found) for found in (1, 2, 0)] == [1, 0, 0]
    assert [is_correct(row("VD", "0"), found) for found in (1, 2)] == [1, 0]


def test_questions_are_grouped_by_figure_and_pair():
    rows = [row("VS", "0", visual_input="0"), row("VS", "1"), row("VS", "2", visual_input="2"), row("VD", "0", "1")]
    groups = hallusion_groups(rows)
    assert groups["set"] == ["VS_chart_3"] * 3 + ["VD_chart_3"]
    assert groups["figure"] == [None, "VS_chart_3_1", "VS_chart_3_2", "VD_chart_3_0"]
    assert groups["pair"] == ["VS_chart_3_0"] * 3 + ["VD_chart_3_1"]
    assert groups["easy"] == ["VS_chart_3_0"] * 2 + [None, "VD_chart_3_1"]
    assert groups["hard"] == [None, None, "VS_chart_3_0", None]


def test_groups_that_are_all_right_are_counted_for_each_set():
    groups, sets = ["f1", "f1", "f2", None, "g1"], ["f", "f", "f", "h", "g"]
    assert all_right(groups, sets, [1, 0, 1, 1, 1]) == ([1, 0, 1], [2, 0, 1])
    assert all_right([None], ["f"], [1]) == ([0], [0])
