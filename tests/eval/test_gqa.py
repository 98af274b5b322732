import json

import pytest
from support.published import published

from trl_mm.eval.gqa import GQABenchmark, is_right


SUFFIX = "Answer the question using a single word or phrase."
DATA = {
    "1": {
        "imageId": "n7",
        "question": "Is it overcast?",
        "answer": "no",
        "isBalanced": True,
        "types": {"structural": "verify", "semantic": "global", "detailed": "weatherVerify"},
    },
    "2": {
        "imageId": "n7",
        "question": "Who wears the dress?",
        "answer": "woman",
        "isBalanced": True,
        "types": {"structural": "query", "semantic": "rel", "detailed": "relS"},
    },
    "3": {
        "imageId": "n8",
        "question": "Is it blue or red?",
        "answer": "red",
        "isBalanced": True,
        "types": {"structural": "choose", "semantic": "attr", "detailed": "chooseAttr"},
    },
}
SAID = {"1": "No.", "2": "The woman", "3": "RED"}


def benchmark(tmp_path, data=DATA, **settings):
    (tmp_path / "testdev.json").write_text(json.dumps(data))
    return GQABenchmark(gqa_file=str(tmp_path / "testdev.json"), **settings)


def answers_file(tmp_path, text):
    (tmp_path / "answers.json").write_text(text)
    return tmp_path / "answers.json"


@pytest.mark.parametrize(
    ("answer", "right"),
    [("No", True), ("no...", True), (" no", False), ("no!", False), ("", False)],
)
def test_an_answer_is_right_without_case_and_full_stops(answer, right):
    assert is_right(answer, "no") == right


def test_questions_are_asked_as_llava_does(tmp_path):
    rows = benchmark(tmp_path).questions(None, seed=0)
    assert rows[0]["question"] == f"Is it overcast?\n{SUFFIX}"
    assert [row["image"] for row in rows] == ["n7.jpg", "n7.jpg", "n8.jpg"]
    result = benchmark(tmp_path).score(rows, list(SAID.values()), seed=0)
    assert result["gqa_accuracy"] == 2 / 3 and GQABenchmark.correct(result) == [1, 0, 1]
    assert GQABenchmark.metric_parts(result) == {"gqa_accuracy": ([1, 1], [2, 1])}
    assert "3 questions: accuracy 66.7% [" in GQABenchmark.lines(result)[0]
    assert GQABenchmark.lines(result)[1] == "GQA by structural type: choose 100.0%, query 0.0%, verify 100.0%"


def test_scores_have_the_types_of_the_published_scorer(tmp_path):
    scored = benchmark(tmp_path)
    scores = scored.published_scores(scored.score(scored.questions(None, seed=0), list(SAID.values()), seed=0))
    assert scores == {
        "accuracy": pytest.approx(200 / 3),
        "binary": 100,
        "open": 0,
        "structural": {"choose": 100, "query": 0, "verify": 100},
        "semantic": {"attr": 100, "global": 100, "rel": 0},
    }


@pytest.mark.parametrize(
    "text",
    [
        json.dumps([{"questionId": id_, "prediction": said} for id_, said in SAID.items()]),
        "\n".join(json.dumps({"question_id": id_, "prompt": "?", "text": said}) for id_, said in SAID.items()),
        "\n".join(
            json.dumps({"answer": SAID[id_], "label": row["answer"].upper(), "types": row["types"]})
            for id_, row in DATA.items()
        ),
    ],
)
def test_answers_of_all_kinds_have_the_same_score(tmp_path, text):
    scored = benchmark(tmp_path)
    scores = scored.published_scores(scored.score(*scored.read_answers(answers_file(tmp_path, text)), seed=0))
    assert scores["accuracy"] == pytest.approx(200 / 3) and scores["semantic"]["rel"] == 0


def test_unknown_types_leave_the_accuracy_alone(tmp_path):
    scored = GQABenchmark()
    text = json.dumps({"answer": "Yes", "label": "yes"})
    result = scored.score(*scored.read_answers(answers_file(tmp_path, text)), seed=0)
    assert scored.published_scores(result) == {"accuracy": 100}
    assert len(scored.lines(result)) == 1


def test_questions_that_are_not_balanced_are_left_out(tmp_path):
    data = {**DATA, "4": {**DATA["3"], "isBalanced": False}}
    assert len(benchmark(tmp_path, data).questions(None, seed=0)) == 3


def test_llavas_question_file_says_what_is_asked(tmp_path):
    asked = {"question_id": "3", "image": "x/n8.jpg", "text": f"Blue or red?\n{SUFFIX}", "category": "default"}
    (tmp_path / "llava.jsonl").write_text(json.dumps(asked))
    (row,) = benchmark(tmp_path, gqa_questions=str(tmp_path / "llava.jsonl")).questions(None, seed=0)
    assert (row["image"], row["question"], row["truth"]["answer"]) == ("x/n8.jpg", asked["text"], "red")
    (tmp_path / "llava.jsonl").write_text(json.dumps({**asked, "question_id": "9"}))
    with pytest.raises(ValueError, match="has 1 questions that `gqa_file` .* has not, the first 9"):
        benchmark(tmp_path, gqa_questions=str(tmp_path / "llava.jsonl")).questions(None, seed=0)
    with pytest.raises(ValueError, match="has questions without answers.*this file in `gqa_questions`"):
        GQABenchmark(gqa_file=str(tmp_path / "llava.jsonl")).questions(None, seed=0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[{"questionId": "1", "prediction": "no"}]', "2 questions have no answer, the first 2"),
        ('[{"questionId": "1"}]', "needs a text under `prediction`|questions have no answer"),
        ('{"answer": "no"}', "entry 1: needs `question_id`"),
        ('{"answer": 1, "label": "x"}', "entry 1: needs a text under"),
        ('{"answer": "x", "label": "x"}\n{"answer": "x"}', "entry 2: needs `label`"),
        (json.dumps([{"questionId": n, "prediction": "no"} for n in (1, 2, 3, 3)]), "answers a question twice: 3"),
        ("[3]", "entry 1: needs `question_id`"),
        ("{}", "entry 1: needs `question_id`"),
    ],
)
def test_bad_answers_are_refused(tmp_path, text, said):
    with pytest.raises(ValueError, match=said):
        benchmark(tmp_path).read_answers(answers_file(tmp_path, text))


def test_bad_data_are_refused(tmp_path):
    with pytest.raises(ValueError, match="`gqa_file` is missing"):
        GQABenchmark().questions(None, seed=0)
    with pytest.raises(ValueError, match="a `label`: name the published file in `file`"):
        GQABenchmark().read_answers(answers_file(tmp_path, '{"question_id": "1", "text": "no"}'))
    with pytest.raises(ValueError, match="entry 1: needs `question_id`, and `imageId` or `image`"):
        benchmark(tmp_path, [{"question": "What?", "answer": "x"}]).questions(None, seed=0)
    with pytest.raises(ValueError, match="entry 1: needs `question`, `answer`"):
        benchmark(tmp_path, {}).questions(None, seed=0)
    with pytest.raises(ValueError, match="entry 2: the question 1 comes twice"):
        row = {"question_id": "1", "image": "a.jpg", "question": "What?", "answer": "x"}
        benchmark(tmp_path, [row, row]).questions(None, seed=0)


def test_published_questions_and_answers_belong_together(tmp_path):
    questions = published("gqa/llava_gqa_testdev_balanced.head300.jsonl")
    answers = published("gqa/llava-v1.5-13b.answers.head300.jsonl")
    said = [json.loads(line) for line in answers.read_text().splitlines()]
    asked = [json.loads(line) for line in questions.read_text().splitlines()]
    data = {
        row["question_id"]: {"imageId": row["image"][:-4], "question": row["text"].split("\n")[0], "answer": "yes"}
        for row in asked
    }
    scored = benchmark(tmp_path, data, gqa_questions=str(questions))
    rows = scored.questions(None, seed=0)
    assert [(row["image"], row["question"]) for row in rows] == [(row["image"], row["text"]) for row in asked]
    result = scored.score(*scored.read_answers(answers), seed=0)
    assert sum(result["correct"]) == sum(row["text"].lower() in ("yes", "yes.") for row in said) > 0
