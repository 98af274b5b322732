import json

import pytest
from datasets import Dataset
from support.measured import benchmarks_measured, measured
from support.tiny import tiny_image

from trl_mm.eval.result_files import read_model, write_results


@pytest.fixture
def run(tmp_path):
    """What `trl-mm eval` leaves of two models, and the questions."""
    (tmp_path / "images").mkdir()
    for index in range(40):
        tiny_image(index, (30, 40)).save(tmp_path / "images" / f"{index}.png")
    models = [
        measured("base", wrong=range(0, 30), ghosts=range(20)),
        measured("aligned", wrong=range(25, 35), ghosts=[30]),
    ]
    for model in models:
        keep(model, tmp_path / model.name, tmp_path / "images")
    questions = {
        name: [{key: value for key, value in row.items() if key != "answer"} for row in rows]
        for name, rows in models[0].rows.items()
    }
    return tmp_path, questions


def keep(model, folder, images):
    """Answers as `answer_questions` keeps them, in two shards, without the truth, with images where they are."""
    for name, rows in model.rows.items():
        (folder / name).mkdir(parents=True)
        for shard, part in enumerate((rows[:30], rows[30:])):
            stored = [
                {"row_id": str(index), "image": str(images / row["image"]), "answer": row["answer"]}
                for index, row in enumerate(part)
            ]
            Dataset.from_list(stored).to_parquet(folder / name / f"shard-{shard:05d}.parquet")
    (folder / "scores.json").write_text(json.dumps(model.scores))


def test_files_are_written_of_models_in_folders(run):
    folder, questions = run
    models = {name: folder / name for name in ("base", "aligned")}
    text = write_results(folder, models, benchmarks_measured(), questions, paper_row="bdhs attention 5k", seed=1)
    assert text.splitlines()[0].split() == ["base", "aligned", "paper"]
    assert text.endswith(f"Results in {folder / 'results.json'}, {folder / 'results.md'}, {folder / 'report.html'}")
    results = json.loads((folder / "results.json").read_text())
    assert results["models"] == ["base", "aligned"] and results["seed"] == 1
    assert results["benchmarks"]["ghost"]["metrics"]["ghost_share"]["models"]["base"]["value"] == 20 / 60
    assert (folder / "results.md").read_text().startswith("| benchmark | metric | base | aligned | paper |")
    html = (folder / "report.html").read_text()
    assert html.count('<img src="data:image/') == 160 and "in the image</dt>" in html  # the truth has joined the rows
    assert not list(folder.glob(".*"))


def test_one_model_beside_its_own_results(run):
    folder, questions = run
    text = write_results(folder / "base", {"base": folder / "base"}, benchmarks_measured(), questions)
    assert "33.3 [" in text and (folder / "base" / "report.html").is_file()
    again = write_results(folder / "base", {"base": folder / "base"}, benchmarks_measured(), questions)
    assert again == text


def test_missing_and_other_answers_are_named(run):
    folder, questions = run
    with pytest.raises(ValueError, match=r"ghost has 40 answers to 39 questions: run `trl-mm eval` again"):
        read_model("base", folder / "base", {"ghost": questions["ghost"][:-1]})
    with pytest.raises(FileNotFoundError, match=r"There are no answers in .*chair"):
        read_model("base", folder / "base", {"chair": []})
    with pytest.raises(FileNotFoundError, match=r"There is no .*scores\.json: run `trl-mm eval` for gone first"):
        read_model("gone", folder / "gone", questions)


def test_what_a_judge_said_joins_the_rows(run):
    folder, questions = run
    path = folder / "base" / "ghost" / "judged.jsonl"
    path.write_text(
        "".join(json.dumps({"image": "x", "answer": "x", "reply": f"{i}\u2028"}) + "\n" for i in range(40))
    )
    row = read_model("base", folder / "base", questions).rows["ghost"][3]
    assert row["reply"] == "3\u2028" and row["answer"] == "A dog and a ghost in it." and row["truth"] == {"dog"}
    assert row["image"].endswith("images/3.png")
    path.write_text("{}\n")
    with pytest.raises(ValueError, match=r"judged\.jsonl has 1 lines of the judge for 40 answers"):
        read_model("base", folder / "base", questions)


def test_figures_stay_where_the_page_cannot_be_made(run, monkeypatch):
    folder, questions = run
    monkeypatch.setattr("trl_mm.eval.result_files.result_page", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_results(folder, {"base": folder / "base"}, benchmarks_measured(), questions)
    assert (folder / "results.json").is_file() and (folder / "results.md").is_file()
