import json

import pytest
from support.published import published

from trl_mm.eval.hallusionbench import HallusionBenchmark


def entry(figure="0", question="0", label="1", **more):
    return {
        "category": "VD",
        "subcategory": "illusion",
        "visual_input": "1" if figure == "0" else "2",
        "set_id": "0",
        "figure_id": figure,
        "question_id": question,
        "question": "Is the left circle larger?",
        "gt_answer": label,
        "filename": f"./VD/illusion/0_{figure}.png",
        **more,
    }


DATA = [entry(), entry("0", "1", "0"), entry("1", "0", "0"), entry("1", "1", "0")]
SAID = ["Yes, it is.", "No.", "Yes.", "They look alike."]


def answers_file(tmp_path, rows):
    (tmp_path / "result.json").write_text(json.dumps(rows))
    return tmp_path / "result.json"


def scores(tmp_path, rows, benchmark=None):
    benchmark = benchmark or HallusionBenchmark()
    result = benchmark.score(*benchmark.read_answers(answers_file(tmp_path, rows)), seed=0)
    return benchmark.published_scores(result), benchmark.lines(result)


def test_answers_are_scored_without_a_judge(tmp_path):
    found, lines = scores(tmp_path, [{**row, "model_prediction": s} for row, s in zip(DATA, SAID, strict=True)])
    assert found == {
        "aAcc": 50,
        "fAcc": 50,
        "qAcc": 0,
        "easy aAcc": 100,
        "hard aAcc": 0,
        "yes_pct_diff": 0.5,  # three count as yes, the unreadable one among them, and one would be right
        "fp_ratio": 1,
        "unreadable": 1,
        "judged": 0,
    }
    assert "4 questions: aAcc 50.0% [" in lines[0] and "fAcc 50.0%" in lines[0]
    assert "says yes 75.0% [" in lines[1] and "neither yes nor no 1, taken for wrong" in lines[1]


@pytest.mark.parametrize("column", ["correctness", "gpt4v_output_gpt_check"])
def test_what_a_judge_said_counts(tmp_path, column):
    judged = [{**row, "model_prediction": "?", column: c} for row, c in zip(DATA, ["1", 1, "2", "0"], strict=True)]
    found, lines = scores(tmp_path, judged)
    assert (found["aAcc"], found["judged"], found["unreadable"]) == (50, 4, 0)
    assert "read by a judge 4" in lines[1]


def test_labels_come_from_the_published_file(tmp_path):
    (tmp_path / "data.json").write_text(json.dumps(DATA))
    benchmark = HallusionBenchmark(hallusionbench_file=str(tmp_path / "data.json"))
    bare = [{**row, "model_prediction": s} for row, s in zip(DATA, SAID, strict=True)]
    for row in bare:
        del row["gt_answer"], row["visual_input"]
    assert scores(tmp_path, bare[::-1], benchmark)[0]["aAcc"] == 50
    with pytest.raises(ValueError, match="1 questions have no answer, the first VD illusion 0 1 1"):
        scores(tmp_path, bare[:3], benchmark)
    with pytest.raises(ValueError, match="without `gt_answer`: name the published file in `file`"):
        scores(tmp_path, bare)


def test_questions_with_a_figure_are_asked(tmp_path):
    (tmp_path / "data.json").write_text(json.dumps([*DATA, entry("2", filename=None)]))
    benchmark = HallusionBenchmark(hallusionbench_file=str(tmp_path / "data.json"), hallusionbench_suffix="Yes or no?")
    rows = benchmark.questions(None, seed=0)
    assert [row["image"] for row in rows[::2]] == ["VD/illusion/0_0.png", "VD/illusion/0_1.png"] and len(rows) == 4
    assert rows[0]["question"] == "Is the left circle larger?\nYes or no?"
    result = benchmark.score(rows, SAID, seed=0)
    assert HallusionBenchmark.correct(result) == [1, 1, 0, 0]
    parts = HallusionBenchmark.metric_parts(result)
    assert parts["hallusionbench_aacc"] == ([2], [4]) and parts["hallusionbench_facc"] == ([1], [2])
    assert set(parts) == set(HallusionBenchmark.metrics)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{**entry(), "model_prediction": "Yes"}] * 2, "entry 2: the question VD illusion 0 0 0 comes twice"),
        ([{"question": "?"}], "entry 1: needs `category`"),
        ([entry()], "entry 1: needs a text under `model_prediction` or `answer`, got None"),
        ([{**entry(label="yes"), "answer": "Yes"}], "entry 1: `gt_answer` must be one of 0, 1, got 'yes'"),
        ([{**entry(), "answer": "Yes", "correctness": 3}], "entry 1: `correctness` must be one of 0, 1, 2, got '3'"),
    ],
)
def test_bad_answers_are_refused(tmp_path, rows, said):
    with pytest.raises(ValueError, match=said):
        scores(tmp_path, rows)


def test_bad_data_are_refused(tmp_path):
    with pytest.raises(ValueError, match="`hallusionbench_file` is missing"):
        HallusionBenchmark().questions(None, seed=0)
    with pytest.raises(ValueError, match="has no question with a `filename`"):
        file = answers_file(tmp_path, [entry(filename=None)])
        HallusionBenchmark(hallusionbench_file=str(file)).questions(None, seed=0)


def test_scores_are_those_of_the_published_scorer(tmp_path):
    """What its `utils.py` counts where every seventh answer is wrong and every eleventh of the others is unclear."""
    data = json.loads(published("hallusionbench/HallusionBench.json").read_text())
    rows = [
        {**row, "model_prediction": "", "correctness": 0 if n % 7 == 3 else 2 if n % 11 == 5 else 1}
        for n, row in enumerate(data)
    ]
    found, _ = scores(tmp_path, rows)
    names = ("aAcc", "fAcc", "qAcc", "easy aAcc", "hard aAcc")
    assert [found[name] for name in names] == [79.008, 43.6416, 52.7473, 74.5055, 73.4884]
    assert (found["yes_pct_diff"], found["fp_ratio"]) == pytest.approx((0.03454384410983169, 0.5822784810126582))


def test_the_published_sample_is_read(tmp_path):
    sample = json.loads(published("hallusionbench/HallusionBench_result_sample.head60.json").read_text())
    found, _ = scores(tmp_path, [{**row, "gt_answer": "1"} for row in sample])
    assert found["unreadable"] < 10 < found["aAcc"]
