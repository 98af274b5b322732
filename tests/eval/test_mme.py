import json

import pytest
from support.tiny import tiny_image

from trl_mm.eval.intervals import ratio
from trl_mm.eval.mme import MMEBenchmark, mme_reading, task_scores
from trl_mm.eval.mme_files import TASKS


ROWS = [  # task, image, question, label, answer
    ("existence", "1.jpg", "Is there a dog? Please answer yes or no.", "Yes", "Yes"),
    ("existence", "1.jpg", "Is there a cat? Please answer yes or no.", "No", "No, there is none."),
    ("existence", "2.jpg", "Is there a dog? Please answer yes or no.", "Yes", "There is."),
    ("existence", "2.jpg", "Is there a cat? Please answer yes or no.", "No", "no"),
    ("OCR", "1.jpg", "Is it STOP? Please answer yes or no.", "Yes", "No"),
    ("OCR", "1.jpg", "Is it GO? Please answer yes or no.", "No", "Yes"),
    ("code_reasoning", "a.png", "Is it 3?  Please answer yes or no.", "Yes", "YES"),
    ("code_reasoning", "a.png", "Is it 4?  Please answer yes or no.", "No", "no."),
]
SCORES = {
    "perception": 75 + 50,
    "cognition": 200,
    "total": 325,
    "tasks": {
        "existence": {"score": 125, "acc": 75, "acc_plus": 50, "other_num": 1},
        "OCR": {"score": 0, "acc": 0, "acc_plus": 0, "other_num": 0},
        "code_reasoning": {"score": 200, "acc": 100, "acc_plus": 100, "other_num": 0},
    },
}


def results_folder(tmp_path, rows=ROWS):
    folder = tmp_path / "results"
    folder.mkdir()
    for task in dict.fromkeys(row[0] for row in rows):
        lines = ["\t".join(row[1:]) for row in rows if row[0] == task]
        (folder / f"{task}.txt").write_text("\n".join(lines) + "\n")
    return folder


def release(tmp_path):
    """Both ways in which the release keeps its questions."""
    root = tmp_path / "MME"
    for task in dict.fromkeys(row[0] for row in ROWS):
        apart = task == "OCR"
        texts, images = (root / task / part for part in (("questions_answers_YN", "images") if apart else ("", "")))
        texts.mkdir(parents=True, exist_ok=True), images.mkdir(parents=True, exist_ok=True)
        for image in dict.fromkeys(row[1] for row in ROWS if row[0] == task):
            tiny_image().save(images / image)
            lines = [f"{row[2]}\t{row[3]}" for row in ROWS if row[:2] == (task, image)]
            (texts / image).with_suffix(".txt").write_text("\n".join(lines) + "\n")
    return root


def scores(path, **settings):
    benchmark = MMEBenchmark(**settings)
    result = benchmark.score(*benchmark.read_answers(path), seed=0)
    return benchmark.published_scores(result), result


@pytest.mark.parametrize(
    ("answer", "read"),
    [
        ("Yes", "yes"),
        ("no", "no"),
        ("Yes and no", "yes"),
        ("No, yes", "no"),
        ("Eyes", "yes"),
        ("Not sure", "no"),
        ("A yes", "other"),
        ("A no", "no"),
        ("", "other"),
        ("The answer is yes", "other"),
    ],
)
def test_answers_are_read_as_the_published_script_does(answer, read):
    assert mme_reading(answer) == read


def test_a_folder_of_results_is_scored(tmp_path):
    found, result = scores(results_folder(tmp_path))
    assert found == SCORES
    parts = MMEBenchmark.metric_parts(result)
    shown = {name: MMEBenchmark.metrics[name].scale * ratio([a], [b]) for name, (a, b) in parts.items()}
    assert shown == pytest.approx({"mme_perception": 125, "mme_cognition": 200})
    assert len(parts["mme_perception"][0]) == 20 and len(parts["mme_cognition"][0]) == 8
    lines = MMEBenchmark.lines(result)
    assert (
        "8 questions: perception 125.0 [" in lines[0]
        and "] of 2000" in lines[0]
        and "yes nor no 1 (12.5%)" in lines[0]
    )
    assert "existence 125.0" in lines[1] and "lacks 11 of its tasks" in lines[2]


def test_rows_of_json_have_the_same_score(tmp_path):
    rows = [{"task": t, "image": i, "label": label, "answer": said} for t, i, _, label, said in ROWS]
    (tmp_path / "answers.json").write_text(json.dumps(rows[::-1]))
    assert scores(tmp_path / "answers.json")[0] == SCORES


@pytest.mark.parametrize("end", ["\nAnswer the question using a single word or phrase.", " Please answer yes or no."])
def test_answers_of_llava_have_the_same_score(tmp_path, end):
    rows = [
        {"question_id": f"{t}/{i}", "prompt": q.replace(" Please answer yes or no.", end), "text": said}
        for t, i, q, _, said in ROWS
    ]
    (tmp_path / "answers.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(ValueError, match="without a `label`: name the published file in `data`"):
        scores(tmp_path / "answers.jsonl")
    assert scores(tmp_path / "answers.jsonl", mme_data=str(release(tmp_path)))[0] == SCORES
    (tmp_path / "answers.jsonl").write_text("\n".join(map(json.dumps, rows[:-1])))
    with pytest.raises(ValueError, match=r"1 questions have no answer, the first code_reasoning a Is it 4\?"):
        scores(tmp_path / "answers.jsonl", mme_data=str(tmp_path / "MME"))


def test_questions_of_the_release_are_asked(tmp_path):
    benchmark = MMEBenchmark(mme_data=str(release(tmp_path)))
    rows = benchmark.questions(None, seed=0)
    assert sorted(row["image"] for row in rows)[:2] == ["OCR/images/1.jpg"] * 2
    assert all((tmp_path / "MME" / row["image"]).is_file() for row in rows)
    said = {(f"{t}/{i}", q): said for t, i, q, _, said in ROWS}
    answers = [said[row["image"].replace("images/", ""), row["question"]] for row in rows]
    assert benchmark.published_scores(benchmark.score(rows, answers, seed=0)) == SCORES


def test_half_of_a_pair_is_no_pair():
    rows = [{"image": "1.jpg", "truth": {"task": "count", "label": "yes"}}]
    result = MMEBenchmark().score(rows, ["yes"], seed=0)
    assert task_scores(result)["count"] == {"score": 100, "acc": 100, "acc_plus": 0, "other_num": 0}
    assert "mme_cognition" not in MMEBenchmark.metric_parts(result)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (ROWS[:3], r"existence.txt has 3 answers: MME has two for each image"),
        ([ROWS[0], ROWS[2]], r"existence.txt: line 1 is of 1.jpg, and the one that goes with it of 2.jpg"),
        ([(*ROWS[0][:3], "maybe", "Yes")] * 2, r"existence.txt, line 1: the label must be yes or no, got 'maybe'"),
        ([ROWS[0][:-1]] * 2, r"existence.txt, line 1: needs image, question, yes or no, and answer, with tabs"),
        ([("dogs", *ROWS[0][1:])] * 2, r"has no file of a task of MME, such as existence.txt"),
    ],
)
def test_bad_folders_are_refused(tmp_path, rows, said):
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        scores(results_folder(tmp_path, rows))


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"task": "dogs", "image": "1", "label": "yes", "answer": "yes"}, "entry 1: `task` must be one of existence"),
        ({"task": "OCR", "image": "1", "label": "?", "answer": "yes"}, "entry 1: the label must be yes or no"),
        ({"task": "OCR", "image": "1", "label": "yes", "answer": "yes"}, "1 images have another .*: OCR 1 has 1"),
        ({"task": "OCR", "image": "1", "label": "yes"}, "entry 1: needs `task`, `image`, `answer`, `label`"),
    ],
)
def test_bad_rows_are_refused(tmp_path, row, said):
    (tmp_path / "answers.jsonl").write_text(json.dumps(row))
    with pytest.raises(ValueError, match=said):
        scores(tmp_path / "answers.jsonl")


def test_bad_data_are_refused(tmp_path):
    with pytest.raises(ValueError, match="`mme_data` is missing"):
        MMEBenchmark().questions(None, seed=0)
    for data, said in ((tmp_path / "none", "is no folder"), (tmp_path, f"no folder of a task of MME.*{TASKS[0]}")):
        with pytest.raises(FileNotFoundError, match=said):
            MMEBenchmark(mme_data=str(data)).questions(None, seed=0)
    root = release(tmp_path)
    (root / "existence" / "2.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"2.txt has no image 2.jpg or .png"):
        MMEBenchmark(mme_data=str(root)).questions(None, seed=0)
