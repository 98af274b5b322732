"""Each example runs on a tiny model, and each names what it needs."""

import ast
import importlib.util
import json
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from support.eval_world import save_adapter
from support.files import save_rows
from support.rows import said, tiny_pairs
from support.tiny import TRAINING, tiny_image, tiny_row

from trl_mm import load_preferences
from trl_mm.tokens.families import FAMILIES


ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
NOTEBOOK = ROOT / "examples" / "first_steps.ipynb"
pytestmark = pytest.mark.skipif(not EXAMPLES, reason="the examples are not part of the sdist")

SHORT = {**TRAINING, "max_steps": 2, "per_device_train_batch_size": 2, "logging_steps": 1}


def example(name):
    spec = importlib.util.spec_from_file_location(f"example_{name}", ROOT / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def sft(tmp_path):
    return str(save_rows(tmp_path / "sft.jsonl", [tiny_row(seed) for seed in range(4)]))


@pytest.fixture
def pairs(tmp_path):
    return str(save_rows(tmp_path / "pairs.jsonl", tiny_pairs()))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_each_says_what_it_needs_and_how_it_is_called(path, capsys):
    text = path.read_text(encoding="utf-8")
    header = re.search(r"^# /// script\n((?:#.*\n)+?)# ///$", text, re.MULTILINE)[1]
    needs = tomllib.loads(re.sub("^# ?", "", header, flags=re.MULTILINE))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (requirement,) = map(Requirement, needs["dependencies"])
    assert requirement.name == "trl-mm" and requirement.extras <= set(project["optional-dependencies"])
    assert needs["requires-python"] == project["requires-python"]
    command = re.search(rf"^python examples/{path.name} (.*)$", ast.get_docstring(ast.parse(text)), re.MULTILINE)[1]
    with pytest.raises(SystemExit):
        example(path.stem).main(["--help"])
    assert set(re.findall(r"--\w+", command)) <= set(re.findall(r"--\w+", capsys.readouterr().out))


def test_dpo_with_pairs_sampled_at_each_step(checkpoint, sft, tmp_path, capsys):
    arguments = ["--model", checkpoint, "--dataset", sft, "--output_dir", "out", "--similarity", "lexical"]
    example("dpo_bdhs_online").main(arguments, **SHORT)
    assert (tmp_path / "out" / "adapter_model.safetensors").is_file()
    assert {"0", "1"} >= {str(step) for step in load_preferences("out/pairs")["step"]}
    assert "Adapter in out" in capsys.readouterr().out


def test_pairs_are_made_and_pushed(checkpoint, sft, tmp_path, monkeypatch):
    arguments = ["--model", checkpoint, "--dataset", sft, "--similarity", "lexical"]
    made = example("pairs_to_hub").main(arguments)
    assert len(made) == 4 and all(pair["rejected"] != pair["chosen"] for pair in made)
    pushed = []
    module = example("pairs_to_hub")
    monkeypatch.setattr(module, "push_preferences", lambda *given, **settings: pushed.append((given, settings)))
    module.main([*arguments, "--repo_id", "me/pairs"])
    ((given, settings),) = pushed
    assert [pair["rejected"] for pair in given[0]] == [pair["rejected"] for pair in made]
    assert given[1] == "me/pairs" and settings == {"private": True}


def test_mixed_dpo_with_a_judge_of_ones_own(checkpoint, pairs, tmp_path):
    module = example("mixed_dpo_judge")
    assert module.ShorterIsBetter().judge([], [], [("a b", "a"), ("a", "a b"), ("a", "b")]) == [1, 0, None]
    module.main(["--model", checkpoint, "--dataset", pairs, "--output_dir", "out"], **{**SHORT, "max_new_tokens": 4})
    assert (tmp_path / "out" / "adapter_model.safetensors").is_file()


def test_a_reward_model_is_trained_evaluated_and_asked(checkpoint, pairs):
    arguments = ["--model", checkpoint, "--dataset", pairs, "--held_out", pairs, "--output_dir", "out"]
    metrics, scores = example("reward_model").main(arguments, **SHORT)
    assert 0 <= metrics["eval_blind_accuracy"] <= 1 and len(scores) == 2 and scores[0] != scores[1]


def test_answers_are_rewarded(checkpoint, tmp_path):
    rows = [{name: tiny_row(seed)[name] for name in ("images", "prompt")} | {"answer": "yes"} for seed in range(4)]
    path = str(save_rows(tmp_path / "questions.jsonl", rows))
    logged = example("rloo").main(
        ["--model", checkpoint, "--dataset", path, "--output_dir", "out"],
        **{**SHORT, "per_device_train_batch_size": 4, "max_completion_length": 4},
    )
    assert [entry["reward"] for entry in logged if "loss" in entry]
    assert (tmp_path / "out/adapter_config.json").is_file()


def test_an_adapter_is_compared_with_its_base(checkpoint, tmp_path):
    (tmp_path / "images").mkdir()
    truth = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}]}
    for number in range(3):
        tiny_image(number).save(tmp_path / "images" / f"{number}.png")
        truth["images"].append({"id": number, "file_name": f"{number}.png"})
        truth["annotations"].append({"id": number, "image_id": number, "category_id": 1 + number % 2})
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    save_adapter(tmp_path / "adapter", checkpoint, seed=1)
    results = example("evaluate_adapter").main(
        ["--base", checkpoint, "--adapter", "adapter", "--annotations", "truth.json", "--images", "images"]
        + ["--output_dir", "evaluated", "--dtype", "float32", "--max_new_tokens", "3"]
    )
    assert {"base", "aligned"} <= set(results["models"]) and (tmp_path / "evaluated" / "report.html").is_file()


def test_a_converter_of_ones_own(tmp_path):
    tiny_image().save(tmp_path / "a.png")
    answers = [{"text": "A cat.", "stars": 5}, {"text": "A dog.", "stars": 1}, {"text": "A cow.", "stars": 3}]
    rows = [
        {"photo": "a.png", "question": "What is it?", "answers": answers},
        {"photo": "a.png", "question": "And here?", "answers": [{**answer, "stars": 2} for answer in answers]},
    ]
    (tmp_path / "ratings.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (row,) = example("own_converter").main(["--dataset", "ratings.jsonl", "--image_folder", "."])
    assert row["chosen"] == said("A cat.") and row["rejected"] == said("A dog.") and row["chosen_rating"] == 5


def test_a_family_of_ones_own(checkpoint, pairs, monkeypatch):
    known = FAMILIES["llava_next"]
    monkeypatch.delitem(FAMILIES, "llava_next")
    losses = example("own_family").main(
        ["--model", checkpoint, "--dataset", pairs, "--projector", *known.projector],
        **TRAINING,
        per_device_eval_batch_size=2,
    )
    assert FAMILIES["llava_next"].projector == known.projector
    assert losses[True] == pytest.approx(losses[False], rel=1e-5) and losses[True] > 0


def test_the_notebook_runs_from_top_to_bottom(checkpoint, capsys):
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    settings = {"MODEL": checkpoint, "SIMILARITY": "lexical", "EPOCHS": 1}
    names = {"__name__": "__main__"}
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code":
            continue
        assert cell["outputs"] == [] and cell["execution_count"] is None
        source = "".join(cell["source"])
        if source.startswith("%pip "):
            continue
        exec(compile(source, NOTEBOOK.name, "exec"), names)
        if "parameters" in cell["metadata"].get("tags", []):
            assert set(settings) <= set(names)
            names |= {**settings, "DEVICE_SETTINGS": {"bf16": False, "use_cpu": True, "save_strategy": "no"}}
    out = capsys.readouterr().out
    assert out.count("rejected:") == 5 and "before:" in out and "after:" in out
    assert names["trainer"].state.global_step == 15
