import json

import pytest
from support.published import published

from trl_mm.eval.intervals import ratio
from trl_mm.eval.textvqa import TextVQABenchmark, asked_question, read_textvqa_file


SUFFIX = "Answer the question using a single word or phrase."
DATA = [
    {"image_id": "i1", "question_id": 7, "question": "What is the Brand?", "answers": ["nikon"] * 4 + ["canon"] * 6},
    {"image_id": "i1", "question_id": 8, "question": "Which model?", "answers": ["d5"] * 2 + ["d50"] * 8},
    {"image_id": "i2", "question_id": 9, "question": "What does it say?", "answers": ["stop"] * 10},
]
SAID = ["Nikon", "D5.", "Go"]


def benchmark(tmp_path, data=None):
    file = tmp_path / "val.json"
    file.write_text(json.dumps({"dataset_type": "val", "data": DATA} if data is None else data))
    return TextVQABenchmark(textvqa_file=str(file))


def answers_file(tmp_path, rows):
    path = tmp_path / "answers.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_questions_are_asked_as_llava_does_without_ocr(tmp_path):
    rows = benchmark(tmp_path).questions(None, seed=0)
    assert rows[0]["question"] == f"What is the Brand?\n{SUFFIX}"
    assert [row["image"] for row in rows] == ["i1.jpg", "i1.jpg", "i2.jpg"]
    result = benchmark(tmp_path).score(rows, SAID, seed=0)
    assert result["textvqa_accuracy"] == pytest.approx((1 + 0.6 + 0) / 3)
    above, below = TextVQABenchmark.metric_parts(result)["textvqa_accuracy"]
    assert (above, below) == ([pytest.approx(1.6), 0], [2, 1]) and ratio(above, below) == result["textvqa_accuracy"]
    assert TextVQABenchmark.row_scores(result) == [1, pytest.approx(0.6), 0]
    assert "3 questions: accuracy 53.3% [" in TextVQABenchmark.lines(result)[0]


@pytest.mark.parametrize(
    "rows",
    [
        [{"answer": said, "answers": row["answers"]} for said, row in zip(SAID, DATA, strict=True)],
        [{"answer": said, "question_id": row["question_id"]} for said, row in zip(SAID, DATA, strict=True)][::-1],
        [
            {
                "question_id": row["image_id"],
                "prompt": f"{row['question']}\nReference OCR token: A, B\n{SUFFIX}",
                "text": said,
            }
            for said, row in zip(SAID, DATA, strict=True)
        ],
    ],
)
def test_answers_of_all_kinds_have_the_same_score(tmp_path, rows):
    scored = benchmark(tmp_path)
    result = scored.score(*scored.read_answers(answers_file(tmp_path, rows)), seed=0)
    assert scored.published_scores(result) == {"accuracy": pytest.approx(1.6 / 3), "samples": 3}


def test_other_than_ten_references_are_pointed_out(tmp_path):
    rows = [{"answer": "x", "answers": ["x"]}, {"answer": "x", "answers": ["x"] * 10}]
    scored = benchmark(tmp_path)
    result = scored.score(*scored.read_answers(answers_file(tmp_path, rows)), seed=0)
    assert "1 questions do not have ten references" in scored.lines(result)[1]
    assert len(scored.lines({**result, "not_ten": 0})) == 1


def test_questions_that_are_asked_twice_of_an_image_share_the_last_references(tmp_path):
    twice = [{**DATA[0], "question_id": 6, "answers": ["canon"] * 10}, DATA[0]]
    rows = [{"question_id": "i1", "prompt": f"what is the brand?\n{SUFFIX}", "text": "nikon"}] * 2
    scored = benchmark(tmp_path, twice)
    questions, _ = scored.read_answers(answers_file(tmp_path, rows))
    assert [row["truth"] for row in questions] == [DATA[0]["answers"]] * 2


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"answer": "x", "answers": "x"}], r"entry 1: `answers` must be a list"),
        ([{"answer": "x", "answers": ["x", 3]}], r"entry 1: `answers` must be a list"),
        ([{"answer": "x", "answers": ["x"]}, {"answer": "x"}], r"entry 2: needs `answers`"),
        ([{"answer": 5, "answers": ["x"]}], r"entry 1: needs a text under `answer` or `text`, got 5"),
        ([{"answer": "x"}], r"entry 1: needs `question_id`"),
        ([{"answer": "x", "question_id": 7}], r"2 questions have no answer, the first 8"),
        ([{"text": "x", "question_id": "i9", "prompt": "Why?"}], r"1 answers have an id .* the first i9"),
    ],
)
def test_bad_answers_are_refused(tmp_path, rows, said):
    with pytest.raises(ValueError, match=said):
        benchmark(tmp_path).read_answers(answers_file(tmp_path, rows))


def test_bad_data_are_refused(tmp_path):
    with pytest.raises(ValueError, match="`textvqa_file` is missing"):
        TextVQABenchmark().questions(None, seed=0)
    with pytest.raises(ValueError, match="references .*name the published file in `file`"):
        TextVQABenchmark().read_answers(answers_file(tmp_path, [{"question_id": 1, "answer": "x"}]))
    with pytest.raises(ValueError, match="entry 1: needs `image_id`, `question`, `answers`"):
        benchmark(tmp_path, [{"question": "Why?"}]).questions(None, seed=0)
    with pytest.raises(FileNotFoundError, match="`textvqa_file`"):
        TextVQABenchmark(textvqa_file=str(tmp_path / "none.json")).questions(None, seed=0)


@pytest.mark.parametrize(
    "prompt",
    [
        f"Why?\n{SUFFIX}",
        f"Why?\nReference OCR token: a, b\n{SUFFIX}",
        f"Reference OCR token: a, b\nWhy?\n{SUFFIX}",
        "OCR tokens: a, b. Question: Why? Short answer:",
        "Why?",
    ],
)
def test_the_question_is_found_in_a_prompt(prompt):
    assert asked_question(prompt) == "Why?"


def test_published_answers_find_their_questions(tmp_path):
    answers = published("textvqa/llava-v1.5-13b.answers.head300.jsonl")
    entries = [json.loads(line) for line in answers.read_text().splitlines()]
    asked = [{"image_id": e["question_id"], "question": e["prompt"].split("\n")[0]} for e in entries]
    texts = [[entry["text"]] * 10 for entry in entries]
    data = [{**row, "question_id": n, "answers": text} for n, (row, text) in enumerate(zip(asked, texts, strict=True))]
    scored = benchmark(tmp_path, {"data": data})
    result = scored.score(*scored.read_answers(answers), seed=0)
    assert len(read_textvqa_file(scored.textvqa_file)) == 300 and result["textvqa_accuracy"] == 1
