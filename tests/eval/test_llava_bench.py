import json

import numpy as np
import pytest
from support.published import published

from trl_mm.eval.llava_bench import LlavaBenchBenchmark
from trl_mm.eval.llava_bench_wording import RULE


QUESTIONS = [
    {"question_id": 0, "image": "001.jpg", "text": "What is it?", "category": "conv"},
    {"question_id": 1, "image": "001.jpg", "text": "Describe it.", "category": "detail"},
    {"question_id": 2, "image": "002.jpg", "text": "Why?", "category": "complex"},
]
CONTEXTS = [{"image": f"00{number}.jpg", "caption": f"Hill {number}."} for number in (1, 2)]
REFERENCES = [{"question_id": number, "text": f"Reference {number}."} for number in range(3)]


def write(folder, questions=QUESTIONS, contexts=CONTEXTS, references=REFERENCES):
    files = {"questions": questions, "context": contexts, "answers_gpt4": references}
    for name, rows in files.items():
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return LlavaBenchBenchmark(llava_bench_data=str(folder))


def judged(benchmark, replies):
    """The result of three answers, and what the judge was asked."""
    asked = []

    def ask(questions, **options):
        assert not options
        asked.extend(questions)
        return replies

    rows = benchmark.questions(None, seed=0)
    answers = ["Alpha.", "", "Gamma."]
    columns = benchmark.judge(rows, answers, ask)
    rows = [{**row, **column} for row, column in zip(rows, columns, strict=True)]
    return benchmark.score(rows, answers, seed=0), asked


def test_questions_are_asked_as_they_are(tmp_path):
    rows = write(tmp_path).questions(None, seed=0)
    assert [row["question"] for row in rows] == ["What is it?", "Describe it.", "Why?"]
    assert rows[2] == {
        "image": "002.jpg",
        "question": "Why?",
        "question_id": 2,
        "category": "llava_bench_complex",
        "truth": {"context": "Hill 2.", "reference": "Reference 2."},
    }


def test_the_judge_reads_the_context_and_the_reference_first(tmp_path):
    result, asked = judged(write(tmp_path), ["8 4\nBecause.", None, "good"])
    text, images = asked[0]
    assert images == []
    order = [
        "[Context]\nHill 1.",
        "[Question]\nWhat is it?",
        "[Assistant 1]\nReference 0.",
        "[Assistant 2]\nAlpha.",
        RULE,
    ]
    assert [text.index(part) for part in order] == sorted(text.index(part) for part in order)
    assert result["pairs"] == [[8, 4], None, [-1, -1]]
    assert LlavaBenchBenchmark.row_scores(result) == [4, None, -1]
    lines = LlavaBenchBenchmark.lines(result)
    assert "1 of 3 answers were not judged" in lines[1]
    assert "1 replies of the judge have no score to read. As published, they are -1" in lines[2]
    nobody, _ = judged(write(tmp_path), [None] * 3)
    assert "no answer was judged" in LlavaBenchBenchmark.lines(nobody)[1]


def test_a_rule_of_the_data_is_the_one_that_counts(tmp_path):
    rules = {f"llava_bench_{name}": {"role": "Helper", "prompt": f"Rate {name}."} for name in ("conv", "detail")}
    benchmark = write(tmp_path)
    (tmp_path / "rule.json").write_text(json.dumps(rules))
    with pytest.raises(ValueError, match=r"rule.json, entry 1: needs `role`, `prompt`"):
        benchmark.questions(None, seed=0)
    (tmp_path / "rule.json").write_text(json.dumps(rules | {"llava_bench_complex": rules["llava_bench_conv"]}))
    _, asked = judged(benchmark, ["1 1"] * 3)
    assert "[Helper 2]\nAlpha.\n\n[End of Helper 2]\n\n[System]\nRate conv." in asked[0][0]
    assert "Rate detail." in asked[1][0]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"questions": []}, "questions.jsonl\\) is empty"),
        ({"questions": [{"text": "What?"}]}, "entry 1: needs `question_id`, `image`, `text`, `category`"),
        (
            {"references": REFERENCES[:2]},
            "0 answers of GPT-4 have an id .* and 1 of its ids have none; the first is 2",
        ),
        ({"contexts": CONTEXTS[:1]}, "1 images of questions.jsonl .* the first is 002.jpg"),
    ],
)
def test_bad_data_are_refused(tmp_path, changed, said):
    with pytest.raises(ValueError, match=said):
        write(tmp_path, **changed).questions(None, seed=0)


def test_missing_data_are_asked_for(tmp_path):
    with pytest.raises(ValueError, match="`llava_bench_data` is missing. .*llava-bench-in-the-wild"):
        LlavaBenchBenchmark().questions(None, seed=0)
    with pytest.raises(FileNotFoundError, match="questions.jsonl.* is no file. `llava_bench_data` is the folder"):
        LlavaBenchBenchmark(llava_bench_data=str(tmp_path)).questions(None, seed=0)


def test_published_data_are_read():
    benchmark = LlavaBenchBenchmark(llava_bench_data=str(published("llava_bench_wild")))
    rows = benchmark.questions(None, seed=0)
    assert (len(rows), len({row["image"] for row in rows})) == (60, 24)


@pytest.mark.parametrize("model", ["7b", "13b"])
@pytest.mark.parametrize("run", [1, 2, 3])
def test_published_reviews_are_summed_up_as_by_the_published_script(model, run):
    path = published(f"llava_bench_wild/reviews/llava-v1.5-{model}-eval{run}.jsonl")
    benchmark = LlavaBenchBenchmark()
    result = benchmark.score(*benchmark.read_answers(path), seed=0)
    reviews = [json.loads(line) for line in path.read_text().splitlines()]
    scores = benchmark.published_scores(result)
    for category in ("all", "llava_bench_conv", "llava_bench_detail", "llava_bench_complex"):
        pairs = [review["tuple"] for review in reviews if category in ("all", review["category"])]
        reference, answer = np.round(np.mean(pairs, axis=0), 3)
        assert scores[category] == round(answer / reference * 100, 1)
    assert scores["all"] == {"7b": [64.7, 65.3, 66.3], "13b": [72.8, 72.7, 72.1]}[model][run - 1]
    assert result["other_records"] == 0


def test_of_nothing_but_unreadable_reviews_there_is_no_score(tmp_path):
    result, _ = judged(write(tmp_path), ["None.", "8 to 9", None])
    (line, *others) = LlavaBenchBenchmark.lines(result)
    assert "none of 3 reviews has two scores in its first line, so there is no score" in line and not others
    assert LlavaBenchBenchmark.metric_parts(result) == {} and result["intervals"] == {}
    assert LlavaBenchBenchmark().published_scores(result)["all"] == 100.0, "as the published script has it"
    result, _ = judged(write(tmp_path), ["None.", "8 9", None])
    assert "112.5 % of GPT-4's score" not in LlavaBenchBenchmark.lines(result)[0] and result["intervals"]
