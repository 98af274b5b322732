import json

import pytest
from support.published import chair_synonyms, published

from trl_mm.bench import dpo
from trl_mm.cli.main import main as cli
from trl_mm.eval.benchmarks import BENCHMARKS, find_benchmark
from trl_mm.eval.pope_scores import pope_scores
from trl_mm.scripts import bench as bench_command
from trl_mm.scripts import score as score_command
from trl_mm.scripts.recipe_parser import documented_settings
from trl_mm.scripts.score import settings_of


ANSWERS = [
    {"answer": "Yes.", "label": "yes", "category": "random"},
    {"answer": "No dog.", "label": "No", "category": "random"},
    {"answer": "NO", "label": "no", "category": "popular"},
    {"answer": "Perhaps.", "label": "yes", "category": "popular"},
]


def score(tmp_path, name, *flags, answers=None):
    """Status and JSON of `trl-mm score NAME`."""
    if answers is not None:
        (tmp_path / "answers.jsonl").write_text(answers)
        flags = ("--answers", str(tmp_path / "answers.jsonl"), *flags)
    out = tmp_path / "out.json"
    status = cli(["score", name, "--json", str(out), *flags])
    return status, json.loads(out.read_text()) if out.exists() else None


def test_answers_are_scored_as_published_by_default(tmp_path, capsys):
    lines = "\n".join(map(json.dumps, ANSWERS))
    status, out = score(tmp_path, "POPE", answers=lines)
    assert status == 0
    random, popular = pope_scores(["Yes.", "No dog."], ["yes", "no"]), {"f1": 2 / 3, "accuracy": 0.5}
    assert out["scores"]["f1"] == pytest.approx((random["f1"] + popular["f1"]) / 2)
    assert out["scores"]["accuracy"] == (1 + 0.5) / 2
    assert out["scores"]["categories"]["popular"]["unreadable"] == 1
    assert (out["benchmark"], out["num_answers"], out["settings"]) == (
        "pope",
        4,
        {"reading": "published", "files": None},
    )
    assert "POPE: F1 83.3%" in capsys.readouterr().out
    array = json.dumps(ANSWERS, indent=1)
    assert score(tmp_path, "pope", answers=array)[1]["scores"] == out["scores"]
    _, strict = score(tmp_path, "pope", "--reading", "strict", answers=lines)
    assert strict["scores"]["categories"]["popular"]["f1"] == 0


def test_a_folder_for_the_scores_is_refused_before_anything_is_read(tmp_path, capsys):
    status = cli(["score", "pope", "--answers", str(tmp_path / "none"), "--json", str(tmp_path)])
    assert status == 2
    assert f"`json` ({tmp_path}) is a folder: name a file in it." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ('{"answer": "Yes"}', "entry 1: needs `answer`, `label`, and has no `label`"),
        ('{"answer": "Yes", "label": "maybe"}', "entry 1: `label` must be yes or no, got 'maybe'"),
        ('{"answer": ["Yes"], "label": "yes"}', "entry 1: `answer` must be a text"),
        ('{"answer": "Yes", "label": "yes"}\n{"answer"', "line 2: no JSON"),
        ('[{"answer": "Yes", "label": "yes"},]', "starts as a JSON array and is none"),
        ("\n", "is empty"),
    ],
)
def test_bad_answers_are_one_line(tmp_path, capsys, answers, said):
    assert score(tmp_path, "pope", answers=answers) == (2, None)
    assert said in capsys.readouterr().err


def test_bad_commands_are_one_line(tmp_path, capsys):
    assert score(tmp_path, "popp", answers="")[0] == 2
    assert "unknown benchmark `popp`, did you mean `pope`?" in capsys.readouterr().err
    assert score(tmp_path, "pope", "--answers", str(tmp_path / "none.json"))[0] == 2
    assert "is no file" in capsys.readouterr().err


def test_all_benchmarks_are_listed(capsys):
    assert cli(["score", "--list"]) == cli(["score"]) == 0
    shown = capsys.readouterr().out
    assert all(f"{name}: {kind.title}\n" in shown for name, kind in BENCHMARKS.items())


@pytest.mark.parametrize("name", BENCHMARKS)
def test_settings_have_a_help_under_their_short_names(name):
    settings = settings_of(name)
    assert find_benchmark(name.upper().replace("_", "-")) == name
    for setting in settings.__dataclass_fields__:
        assert len(documented_settings(settings)[setting]) > 10


def test_answers_are_read_as_the_published_script_reads_them(tmp_path):
    rows = json.loads(published("golden/pope_answer_reading.json").read_text())["rows"]
    lines = "\n".join(json.dumps({"answer": row["answer"], "label": row["official_reading"]}) for row in rows)
    assert score(tmp_path, "pope", answers=lines)[1]["scores"]["accuracy"] == 1


def test_textvqa_is_scored_with_the_references_of_a_file(tmp_path):
    data = [{"image_id": "i", "question_id": 1, "question": "What?", "answers": ["red"] * 2 + ["blue"] * 8}]
    (tmp_path / "val.json").write_text(json.dumps({"data": data}))
    lines = json.dumps({"question_id": "i", "prompt": "What?\nIn a word.", "text": "Red."})
    status, out = score(tmp_path, "textvqa", "--file", str(tmp_path / "val.json"), answers=lines)
    assert status == 0 and out["scores"] == {"accuracy": pytest.approx(0.6), "samples": 1}


def test_gqa_is_scored_in_percent_as_its_authors_do(tmp_path):
    data = {"1": {"imageId": "n1", "question": "Is it red?", "answer": "yes"}}
    (tmp_path / "testdev.json").write_text(json.dumps(data))
    answers = json.dumps([{"questionId": "1", "prediction": "Yes."}])
    status, out = score(tmp_path, "gqa", "--file", str(tmp_path / "testdev.json"), answers=answers)
    assert status == 0 and out["scores"] == {"accuracy": 100}


def test_mme_is_scored_from_its_folder(tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "color.txt").write_text("1.jpg\tRed?\tYes\tyes\n1.jpg\tBlue?\tNo\tYes\n")
    status, out = score(tmp_path, "mme", "--answers", str(folder))
    assert status == 0 and out["scores"]["perception"] == 50


@pytest.mark.parametrize("model", ["lim_r1-llava1.5-7b", "opera_llava-1.5.greedy"])
@pytest.mark.parametrize("reading", ["singularize", "wordnet"])
def test_chair_is_the_published_one(tmp_path, capsys, model, reading):
    pytest.importorskip("textblob")
    golden = published("golden/chair")
    flags = {"answers": golden / f"captions_{model}.jsonl", "truths": golden / "ground_truth_objects.json"}
    flags |= {"synonyms": chair_synonyms(), "reading": reading}
    status, out = score(
        tmp_path, "chair", *(part for name, value in flags.items() for part in (f"--{name}", str(value)))
    )
    if status and "NLTK's data are missing" in (said := capsys.readouterr().err):
        pytest.skip(said)
    reference = json.loads((golden / "reference.json").read_text())[model][reading]
    assert {name: round(value, 6) for name, value in out["scores"].items()} == reference


def test_chair_needs_truths_and_a_list(tmp_path, capsys):
    row = '{"image": "1", "caption": "A dog."}'
    assert score(tmp_path, "chair", answers=row)[0] == 2
    assert "needs the authors' synonyms.txt" in capsys.readouterr().err
    (tmp_path / "truths.json").write_text('{"000001.jpg": ["dog", "cat"]}')
    flags = ("--reading", "ours", "--truths", str(tmp_path / "truths.json"))
    assert score(tmp_path, "chair", *flags, answers=row)[1]["scores"] == {"CHAIRs": 0, "CHAIRi": 0, "Recall": 0.5}
    assert score(tmp_path, "chair", *flags, answers=row.replace("1", "2"))[0] == 2
    assert "1 of 1 captions" in capsys.readouterr().err


def test_amber_is_the_published_one(tmp_path):
    golden = published("golden/amber")
    files = ("--answers", str(golden / "responses_discriminative.json"), "--data", str(published("amber")))
    reference = json.loads((golden / "reference.json").read_text())["discriminative"]["scores"]
    assert score(tmp_path, "amber", *files)[1]["scores"] == reference
    _, part = score(tmp_path, "amber", *files, "--parts", "relation")
    assert part["scores"] == {"Relation": reference["Relation"]}


def test_answers_of_llava_find_their_labels(tmp_path):
    """In LLaVA's order of categories, while the files are given in another, and `random` has 2,910 questions."""
    files = [
        published(f"pope/coco2910/coco_pope_{category}.json") for category in ("adversarial", "popular", "random")
    ]
    asked = [(row["text"], row["label"]) for file in files for row in map(json.loads, file.read_text().splitlines())]
    lines = [
        {"question_id": number, "prompt": f"{text}\nAnswer briefly.", "text": "Yes" if number % 3 else label.title()}
        for number, (text, label) in enumerate(asked, start=1)
    ]
    given = ("--files", *map(str, reversed(files)))
    _, out = score(tmp_path, "pope", *given, answers="\n".join(map(json.dumps, lines)))
    expected = pope_scores([line["text"] for line in lines[:3000]], [label for _, label in asked[:3000]])
    assert list(out["scores"]["categories"]) == ["coco_pope_adversarial", "coco_pope_popular", "coco_pope_random"]
    assert out["scores"]["categories"]["coco_pope_adversarial"]["f1"] == expected["f1"]
    assert out["num_answers"] == 8910


def test_reviews_of_llava_bench(tmp_path, capsys):
    reviews = [
        {"question_id": 0, "category": "llava_bench_conv", "content": "8 4\nBecause.", "tuple": [8.0, 4.0]},
        {"question_id": 1, "category": "llava_bench_conv", "content": "8, 6", "tuple": [-1, -1]},
        {"question_id": 2, "category": "llava_bench_detail", "content": None},
        {"question_id": 3, "category": "llava_bench_detail", "content": "Scores: 9 and 3", "tuple": [9, 3]},
    ]
    status, out = score(tmp_path, "LLaVA-Bench", answers="\n".join(map(json.dumps, reviews)))
    assert status == 0
    assert out["scores"]["all"] == round(2 / 5.333 * 100, 1)
    assert out["scores"]["llava_bench_conv"] == round(1.5 / 3.5 * 100, 1)
    assert (out["scores"]["unreadable"], out["scores"]["unjudged"]) == (1, 1)
    shown = capsys.readouterr().out
    assert "1 of 4 answers were not judged" in shown
    assert "1 reviews say other scores than their `tuple`, which counts" in shown
    with_texts = "\n".join(json.dumps({key: row[key] for key in ("category", "content")}) for row in reviews[:2])
    assert score(tmp_path, "llava_bench", answers=with_texts)[1]["scores"]["all"] == round(1.5 / 3.5 * 100, 1)


@pytest.mark.parametrize(
    ("review", "said"),
    [
        ('{"category": "conv"}', "entry 1: needs a review as published: `content`"),
        ("[7]", "entry 1: needs a review as published"),
        ('{"content": ["8 4"]}', "needs the judge's reply"),
        ('{"tuple": [8, "4"]}', "`tuple` must be two numbers"),
        ('{"tuple": [8, 4, 5]}', "`tuple` must be two numbers"),
        ('{"tuple": [8, NaN]}', "`tuple` must be two numbers"),
    ],
)
def test_bad_reviews_are_one_line(tmp_path, capsys, review, said):
    assert score(tmp_path, "llava_bench", answers=review) == (2, None)
    assert said in capsys.readouterr().err


def test_replies_of_mmhal_in_all_forms(tmp_path, capsys):
    replies = [f"Because.\nRating: {number % 7}" for number in range(95)] + ["3 or 4"]
    response = [{"choices": [{"message": {"role": "assistant", "content": reply}}]} for reply in replies]
    _, out = score(tmp_path, "MMHal-Bench", answers=json.dumps(response))
    ratings = [number % 7 for number in range(95)] + [0]
    assert out["scores"]["average_score"] == pytest.approx(sum(ratings) / 96)
    assert out["scores"]["hallucination_rate"] == pytest.approx(sum(rating < 3 for rating in ratings) / 96)
    assert out["scores"]["average_score_for_each_question_type"]["other"] == sum(ratings[7::8]) / 12
    assert out["scores"]["unreadable"] == 1
    assert "1 replies of the judge have no score to read. As published, they are rated 0." in capsys.readouterr().out
    for form in (replies, [{"reply": reply} for reply in replies], [{"content": row} for row in response]):
        assert score(tmp_path, "mmhal", answers="\n".join(map(json.dumps, form)))[1]["scores"] == out["scores"]
        assert score(tmp_path, "mmhal_v", answers=json.dumps(form))[1]["scores"] == out["scores"]


def test_few_replies_of_mmhal_say_their_type_or_have_none(tmp_path):
    replies = [{"reply": "Rating: 5", "question_type": "other"}, {"reply": None}, "Rating: 1"]
    _, out = score(tmp_path, "mmhal", answers=json.dumps(replies))
    assert out["scores"]["average_score_for_each_question_type"] == {"other": 5}
    assert (out["scores"]["average_score"], out["scores"]["unjudged"]) == (3, 1)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ("7", "entry 1: needs the judge's reply"),
        ('{"answer": "Rating: 3"}', "entry 1: needs the judge's reply"),
        ('{"choices": []}', "entry 1: its `choices` are not those of a chat completion"),
        ('{"reply": "Rating: 3", "question_type": 7}', "entry 1: `question_type` must be a text"),
    ],
)
def test_bad_replies_of_mmhal_are_one_line(tmp_path, capsys, reply, said):
    assert score(tmp_path, "mmhal", answers=reply) == (2, None)
    assert said in capsys.readouterr().err


MMVET = {
    f"v1_{number}": {"imagename": "a.png", "question": "?", "answer": "!", "capability": capability}
    for number, capability in enumerate((["ocr", "math"], ["rec"]))
}


def test_grades_of_mmvet(tmp_path, capsys):
    (tmp_path / "mm-vet.json").write_text(json.dumps(MMVET))
    grades = {
        "v1_0": {"model": ["gpt"] * 2, "content": ["1.0", "0.5"], "score": [1.0, 0.5]},
        "v1_1": {"model": ["gpt"] * 2, "content": ["0.2", "No idea"], "score": [0.2, 0.0]},
    }
    data = ("--file", str(tmp_path / "mm-vet.json"))
    _, out = score(tmp_path, "MM-Vet", *data, answers=json.dumps(grades))
    assert out["scores"]["total"] == pytest.approx(42.5)
    assert out["scores"]["runs"] == pytest.approx([60, 25])
    assert out["scores"]["std"] == pytest.approx(17.5)
    assert out["scores"]["capability_sets"] == pytest.approx({"ocr_math": 75, "rec": 10})
    assert {name: out["scores"][name] for name in ("ocr", "math", "rec")} == pytest.approx(
        {"ocr": 75, "math": 75, "rec": 10}
    )
    assert "1 replies of the judge have no score to read" in capsys.readouterr().out
    _, bare = score(tmp_path, "mmvet", answers=json.dumps(grades))
    assert (bare["scores"]["total"], bare["scores"]["capability_sets"]) == (out["scores"]["total"], {})
    assert "Give mm-vet.json as `--file`" in capsys.readouterr().out
    rows = [{"id": "a", "score": 1, "capability": "ocr_math"}, {"id": "b", "score": None, "capability": ["rec"]}]
    _, rows = score(tmp_path, "mmvet", answers="\n".join(map(json.dumps, rows)))
    assert (rows["scores"]["total"], rows["scores"]["math"], rows["scores"]["unjudged"]) == (100, 100, 1)
    _, said = score(tmp_path, "mmvet", answers='{"v1_0": {"content": ["0.4 or so", "Right"]}}')
    assert said["scores"]["runs"] == pytest.approx([40, 0])


@pytest.mark.parametrize(
    ("grades", "said"),
    [
        ('{"v1_0": "text"}', "v1_0: needs `score` (a number from 0 to 1"),
        ('{"v1_0": {"score": [1.5]}, "v1_1": {"score": [0]}}', "v1_0: `score` must be numbers from 0 to 1"),
        ('{"v1_0": {"score": [true]}}', "`score` must be numbers from 0 to 1"),
        ('{"v1_0": {"score": ["0.5"]}}', "`score` must be numbers from 0 to 1, got '0.5'"),
        ('{"v1_0": {"score": []}}', "`score` is empty"),
        ('{"v1_0": {"score": [1, 0]}, "v1_1": {"score": [1]}}', "but v1_1 has 1, v1_0 has 2"),
        (
            '{"v1_0": {"score": [1]}, "v1_9": {"score": [1]}}',
            "1 grades have an id that `file` does not have, and 1 of",
        ),
        ('[{"id": "v1_0", "score": 1}, {"id": "v1_0", "score": 1}]', "entry 2: v1_0 is there twice"),
        ('[{"id": "v1_0", "score": 1}, 7]', "entry 2: needs `score`"),
        ('[{"id": "x", "score": 1, "capability": 7}, {"id": "y", "score": 1}]', "`capability` must be a list"),
    ],
)
def test_bad_grades_of_mmvet_are_one_line(tmp_path, capsys, grades, said):
    (tmp_path / "mm-vet.json").write_text(json.dumps(MMVET))
    assert score(tmp_path, "mmvet", "--file", str(tmp_path / "mm-vet.json"), answers=grades) == (2, None)
    assert said in capsys.readouterr().err


def test_the_usage_shows_what_is_needed(capsys):
    with pytest.raises(SystemExit):
        cli(["score", "pope", "--help"])
    assert capsys.readouterr().out.startswith("usage: trl-mm score pope --answers FILE [--json OUT] [settings]")


@pytest.mark.parametrize("command", [score_command.Score("pope"), bench_command.dpo])
def test_scores_and_figures_are_written_beside_and_moved(tmp_path, monkeypatch, command):
    for module in (score_command, bench_command):
        monkeypatch.setattr(module, "write_json", lambda path, content: written.append(path.name))
    written = []
    monkeypatch.setattr(score_command, "score_file", lambda *args: {"lines": []})
    monkeypatch.setattr(dpo, "measure", lambda settings: {})
    monkeypatch.setattr(dpo, "summary", lambda result: "")
    answers = ["--answers", "a"] if isinstance(command, score_command.Score) else []
    command.main([*answers, "--json", str(tmp_path / "out.json")])
    assert written == ["out.json"]
    with pytest.raises(ValueError, match="is a folder: name a file in it"):
        command.main([*answers, "--json", str(tmp_path)])
