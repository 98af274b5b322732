import json

import pytest

from trl_mm.eval import extracted_objects, word_forms
from trl_mm.eval.intervals import ratio
from trl_mm.eval.object_halbench import ObjectHalBenchBenchmark


TAGS = {"a": "DT"}
DOGS = "Two dogs on a big chair."


@pytest.fixture(autouse=True)
def words(monkeypatch):
    for module in (word_forms, extracted_objects):
        monkeypatch.setattr(module, "word_tokenize", str.split)
        monkeypatch.setattr(
            module, "tagged", lambda tokens: [(token, "NN" if token != "a" else "DT") for token in tokens]
        )
        monkeypatch.setattr(module, "lemma", lambda word: word.rstrip("s"))


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "synonyms.txt").write_text("dog, puppy\nchair, seat\ncat\n")
    (tmp_path / "truths.json").write_text('{"1": ["puppy", "dog"], "000002.jpg": ["chair"]}')
    rows = [
        {"question": "Describe.", "image_id": 1, "image": "A" * 1000},
        {"question": "What is it?", "image_id": "2"},
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return {
        "object_halbench_file": str(tmp_path / "rows.jsonl"),
        "object_halbench_synonyms": str(tmp_path / "synonyms.txt"),
        "object_halbench_truths": str(tmp_path / "truths.json"),
    }


def test_questions_are_of_coco_with_their_objects(settings, tmp_path):
    captions = {
        "images": [{"id": number, "file_name": f"COCO_val2014_00000000000{number}.jpg"} for number in (1, 2)],
        "annotations": [{"image_id": number, "caption": "two cats"} for number in (1, 2)],
    }
    (tmp_path / "captions.json").write_text(json.dumps(captions))
    benchmark = ObjectHalBenchBenchmark(**settings, object_halbench_captions=str(tmp_path / "captions.json"))
    assert benchmark.questions(None, seed=0) == [
        {"image": "COCO_val2014_000000000001.jpg", "question": "Describe.", "truth": {"dog", "cat"}},
        {"image": "COCO_val2014_000000000002.jpg", "question": "What is it?", "truth": {"chair", "cat"}},
    ]


def test_the_judge_is_asked_again_once(settings):
    benchmark, asked = ObjectHalBenchBenchmark(**settings), []

    def ask(questions, **options):
        asked.append((len(questions), options))
        return ['["dog"]', "Hm.", None][: len(questions)] if not options else ["[]", None]

    rows = [{"question": "Describe."}] * 4
    columns = benchmark.judge(rows, [DOGS, "A dog.", DOGS, DOGS], ask)
    assert columns == [{"reply": '["dog"]'}, {"reply": "[]"}, {"reply": "[]"}, {"reply": None}]
    assert asked == [(3, {}), (2, {"temperature": 0.5})]


def test_counted_by_hand(settings):
    benchmark = ObjectHalBenchBenchmark(**settings)
    rows = benchmark.questions(None, seed=0)
    rows = [
        {**rows[0], "reply": '["dogs", "chair", "puppy"]'},  # 3 words, the chair is not there
        {**rows[1], "reply": "[]"},
        {**rows[1], "reply": None},
    ]
    result = benchmark.score(rows, [DOGS, "It is red.", DOGS], seed=0)
    assert benchmark.published_scores(result) == {
        "CHAIRs": 1 / 2, "CHAIRs_refine": 1.0, "CHAIRi": 1 / 3, "obj_rec": 1 / 2, "sentence_num": 2,
        "coco_sentence_num": 1, "coco_word_count": 1, "gt_word_count": 2, "avg_word_len": 4.5, "correct_rate": 0.0,
        "object_correct_rate": 1 - 1 / 3, "unjudged": 1,
    }  # fmt: skip
    parts = benchmark.metric_parts(result)
    assert list(parts) == list(benchmark.metrics)
    assert {name: ratio(*part) for name, part in parts.items()} == {name: result[name] for name in parts}
    assert [len(part[0]) for part in parts.values()] == [2, 2, 2]  # images
    assert benchmark.row_scores(result) == [1 - 1 / 3, None, None]
    assert "1 answers have no readable list" in benchmark.lines(result)[1]
    assert "1.4 points" in benchmark.lines(result)[0]
    assert benchmark.marks(rows[0], DOGS) == [(4, 8, "good"), (18, 23, "bad")]
    json.dumps(result)


def test_nothing_judged_is_no_score(settings):
    benchmark = ObjectHalBenchBenchmark(**settings)
    rows = [{**row, "reply": "Hm."} for row in benchmark.questions(None, seed=0)]
    with pytest.raises(ValueError, match="no readable reply to any answer"):
        benchmark.score(rows, [DOGS, DOGS], seed=0)


def test_answers_are_read_in_all_forms(settings, tmp_path):
    entries = [
        {"image_id": 1, "prompt": "Describe.", "text": "Assistant: Two dogs sit here.", "objects": ["dogs"]},
        {"image_id": "2", "question": "What?", "answer": "A seat.", "reply": None},
        {"image_id": 2, "caption": "Red."},
    ]
    (tmp_path / "answers.jsonl").write_text("\n".join(map(json.dumps, entries)))
    benchmark = ObjectHalBenchBenchmark(**settings)
    rows, answers = benchmark.read_answers(tmp_path / "answers.jsonl")
    assert answers == ["Two dogs sit here.", "A seat.", "Red."]
    assert [row["reply"] for row in rows] == ['["dogs"]', "[]", "[]"]
    assert [row["truth"] for row in rows] == [{"dog"}, {"chair"}, {"chair"}]
    published = {
        "sentences": [{"image_id": 1, "caption": "Two dogs sit here.", "words": ["dog"]}],
        "overall_metrics": {},
    }
    (tmp_path / "hall.json").write_text(json.dumps(published))
    assert benchmark.read_answers(tmp_path / "hall.json")[0][0]["reply"] == '["dog"]'


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"image_id": 3, "answer": "A dog."}, "1 of 1 rows of .* such as COCO_val2014_000000000003.jpg; 2 images"),
        ({"image_id": 1}, "`answer` must be a text, got None"),
        ({"answer": "A dog."}, "needs `image_id`"),
        ({"image_id": 1, "answer": "A dog.", "objects": [1]}, "`objects` must be a list of names"),
    ],
)
def test_bad_answers_are_named(settings, tmp_path, row, said):
    (tmp_path / "answers.jsonl").write_text(json.dumps(row))
    with pytest.raises(ValueError, match=said):
        ObjectHalBenchBenchmark(**settings).read_answers(tmp_path / "answers.jsonl")


@pytest.mark.parametrize("name", ["file", "synonyms", "truths"])
def test_missing_settings_are_named(settings, name):
    del settings[f"object_halbench_{name}"]
    with pytest.raises(ValueError, match=f"`object_halbench_{name}` is missing"):
        ObjectHalBenchBenchmark(**settings).questions(None, seed=0)


def test_objects_that_the_list_lacks_are_named(settings):
    with pytest.raises(ValueError, match="lacks objects of the truth: unicorn"):
        ObjectHalBenchBenchmark(**settings | {"object_halbench_truths": None}).questions(
            {"1": {"unicorn"}, "2": {"dog"}}, seed=0
        )
