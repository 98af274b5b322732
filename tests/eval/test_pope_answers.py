import json

import pytest
from support.published import published

from trl_mm.eval.pope import PopeBenchmark
from trl_mm.eval.pope_answers import read_answers_to_files


QUESTIONS = {
    "random": [
        ("1.jpg", "Is there a dog?", "yes"),
        ("1.jpg", "Is there a cat?", "no"),
        ("2.jpg", "Is there a dog?", "no"),
    ],
    "popular": [("1.jpg", "Is there a dog?", "yes"), ("1.jpg", "Is there an owl?", "no")],
}


@pytest.fixture
def files(tmp_path):
    for category, rows in QUESTIONS.items():
        lines = [
            {"question_id": number, "image": image, "text": text, "label": label}
            for number, (image, text, label) in enumerate(rows, start=1)
        ]
        (tmp_path / f"{category}.json").write_text("\n".join(map(json.dumps, lines)))
    return [tmp_path / f"{category}.json" for category in QUESTIONS]


@pytest.fixture
def read(tmp_path):
    def read(entries, files):
        (tmp_path / "answers.jsonl").write_text("\n".join(map(json.dumps, entries)))
        rows, answers = read_answers_to_files(tmp_path / "answers.jsonl", files)
        return [(row["category"], row["label"]) for row in rows], answers

    return read


def answers(*categories, **more):
    asked = [(category, row) for category in categories for row in QUESTIONS[category]]
    return [
        {"question": text.lower(), "answer": f"{category} {index}", **more}
        for index, (category, (_, text, _)) in enumerate(asked)
    ]


def test_official_answers_are_in_the_order_of_the_questions(read, files):
    assert read(answers("random"), files[:1]) == (
        [("random", "yes"), ("random", "no"), ("random", "no")],
        ["random 0", "random 1", "random 2"],
    )


def test_files_may_come_in_any_order(read, files):
    labels, said = read(answers("popular", "random"), files)
    assert labels == [(category, row[2]) for category in ("popular", "random") for row in QUESTIONS[category]]
    assert said[0] == "popular 0"


def test_answers_of_parallel_runs_are_sorted_by_id(read, files):
    entries = [
        {"question_id": number, "prompt": f"<image>\n{row['question']}\nOne word.", "text": row["answer"]}
        for number, row in enumerate(answers("random", "popular"), start=1)
    ]
    assert read([entries[index] for index in (4, 0, 3, 1, 2)], files) == read(entries, files)


def test_without_questions_ids_and_images_are_compared(read, files):
    entries = [{"question_id": number, "image": f"val/{number // 3 + 1}.jpg", "answer": "no"} for number in (3, 1, 2)]
    assert read(entries, files[:1])[0] == [("random", "yes"), ("random", "no"), ("random", "no")]
    with pytest.raises(ValueError, match=r"answer 3 is to \(None, '9.jpg', 3\), the question is \('2.jpg', 'Is there"):
        read([{**entries[0], "image": "9.jpg"}, *entries[1:]], files[:1])
    assert read([{"response": "no"}] * 3, files[:1])[0] == [("random", "yes"), ("random", "no"), ("random", "no")]


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        (answers("random")[:2], "has 2 answers, and `files` have 3 questions"),
        (answers("random")[:1] * 3, "answer 2 is to .*is there a dog.* the question is .*Is there a cat"),
        ([{"question": "x"}] * 3, "entry 1: `answer` must be a text, got None"),
        (["yes"] * 3, "entry 1: needs an object with `answer`, got yes"),
        (answers("random", question="Is there a bus?"), "answer 1 is to .*Is there a bus.* the question is"),
    ],
)
def test_other_answers_are_refused(read, files, entries, said):
    with pytest.raises(ValueError, match=said):
        read(entries, files[:1])


def test_labels_in_neither_place_are_asked_for(tmp_path):
    (tmp_path / "answers.json").write_text(json.dumps(answers("random")))
    with pytest.raises(ValueError, match="has no `label`.*Labels may also come from the published"):
        PopeBenchmark().read_answers(tmp_path / "answers.json")


@pytest.mark.parametrize(
    "names",
    [
        ["coco_pope_random", "coco_pope_popular", "coco_pope_adversarial"],
        ["aokvqa_pope_seem_random"],
        ["gqa_pope_seem_popular", "gqa_pope_seem_random"],
        ["coco2910/coco_pope_random"],
        ["popev2_annotations"],
        ["vcd_aokvqa_pope_random.head60"],
        ["vcd_gqa_pope_random.head60"],
    ],
)
def test_answers_to_all_published_files_find_their_labels(names, tmp_path):
    files = [str(published(f"pope/{name}.json")) for name in names]
    benchmark = PopeBenchmark(pope_files=files, pope_reading="published")
    rows = benchmark.questions(None, seed=0)
    lines = [{"question": row["question"], "image": row["image"], "answer": row["label"]} for row in rows]
    (tmp_path / "answers.json").write_text(json.dumps(lines))
    read, said = benchmark.read_answers(tmp_path / "answers.json")
    assert read == rows
    assert benchmark.published_scores(benchmark.score(read, said, seed=0))["f1"] == 1


def test_the_questions_of_llava_are_those_of_the_older_files(tmp_path):
    asked = [json.loads(line) for line in published("pope/llava_pope_test.head300.jsonl").read_text().splitlines()]
    lines = published("pope/coco2910/coco_pope_adversarial.json").read_text().splitlines()
    (tmp_path / "coco_pope_adversarial.json").write_text("\n".join(lines[:300]))
    replies = [{"question_id": row["question_id"], "prompt": row["text"], "text": "Yes"} for row in asked]
    (tmp_path / "answers.jsonl").write_text("\n".join(map(json.dumps, replies)))
    rows, _ = read_answers_to_files(tmp_path / "answers.jsonl", [tmp_path / "coco_pope_adversarial.json"])
    assert [row["image"] for row in rows] == [row["image"] for row in asked]
