"""`trl-mm report --model`."""

import copy
import json
import re

import pytest
from peft import LoraConfig, get_peft_model
from support.families import tokenizer
from support.files import save_rows
from support.rows import tiny_pairs
from support.tiny import save_tiny, tiny_model, tiny_processor

from trl_mm.cli.main import main as cli


@pytest.fixture
def pairs(tmp_path):
    """A folder with four pairs, and beside it a model."""
    folder = tmp_path / "pairs"
    folder.mkdir()
    save_rows(folder / "rows.jsonl", [{**row, "source": "ab"[i % 2]} for i, row in enumerate(tiny_pairs(4))])
    save_tiny(tmp_path / "model", scale=6)
    return folder


def page_of(folder):
    return (folder / "report.html").read_text()


def test_a_model_and_its_reference_judge_the_pairs(pairs, tmp_path, capsys):
    save_tiny(tmp_path / "base", scale=6, seed=1)
    flags = ["--model", str(tmp_path / "model"), "--ref_model", str(tmp_path / "base"), "--batch_size", "3"]
    assert cli(["report", str(pairs), *flags]) == 0
    out, page = capsys.readouterr().out, page_of(pairs)
    assert re.search(r"model, more likely: chosen is preferred in \d of 4 pairs", out)
    assert "model, implicit reward against base: chosen is preferred in" in out
    assert "What model makes of the pairs" in page and "By source" in page
    assert "tokens of chosen less rejected" in page, "the model's processor counts"
    assert re.search(r"chosen less rejected [+-]\d+\.\d nats", page), "in the title of a row"
    assert page.count("log-probability of chosen less rejected") > 0, "a filter"


def test_an_adapter_scores_as_its_base_before_training(pairs, tmp_path, capsys):
    model = tiny_model(scale=6)
    model.name_or_path = str(tmp_path / "model")
    adapter = get_peft_model(model, LoraConfig(target_modules=["q_proj"]))
    adapter.peft_config["default"].base_model_name_or_path = str(tmp_path / "model")
    adapter.save_pretrained(tmp_path / "adapter")
    flags = ["--model", str(tmp_path / "adapter"), "--ref_model", str(tmp_path / "model")]
    assert cli(["report", str(pairs), *flags]) == 0
    assert "implicit reward against model: chosen is preferred in 0 of 4 pairs" in capsys.readouterr().out


def test_only_rows_on_the_page_whose_images_are_there_are_scored(pairs, tmp_path, capsys):
    lines = [json.loads(line) for line in (pairs / "rows.jsonl").read_text().splitlines()]
    lines[0]["images"] = ["gone.png"]
    (pairs / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert cli(["report", str(pairs), "--model", str(tmp_path / "model"), "--max_rows", "2"]) == 0
    out = capsys.readouterr().out
    assert "in 0 of 1 pairs" in out or "in 1 of 1 pairs" in out
    assert page_of(pairs).count("log-probability of chosen less rejected") > 0
    for line in lines:
        line["images"] = ["gone.png"]
    (pairs / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert cli(["report", str(pairs), "--model", str(tmp_path / "model")]) == 0
    assert "No row has all of its images, so model has scored none." in capsys.readouterr().out


def test_models_that_are_none_or_of_other_tokens_are_refused(pairs, tmp_path, capsys):
    tokenizer().save_pretrained(tmp_path / "text")
    (tmp_path / "text" / "config.json").write_text('{"model_type": "llama"}')
    assert cli(["report", str(pairs), "--model", str(tmp_path / "text")]) == 2
    assert f"`model` ({tmp_path / 'text'}) has no image processor" in capsys.readouterr().err
    save_tiny(tmp_path / "other")
    processor = copy.deepcopy(tiny_processor())
    processor.tokenizer.add_tokens(["zebra"])
    processor.save_pretrained(tmp_path / "other")
    flags = ["--model", str(tmp_path / "model"), "--ref_model", str(tmp_path / "other")]
    assert cli(["report", str(pairs), *flags]) == 2
    assert "has another vocabulary than `model`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (["--model", "{}/gone"], "`model` ({}/gone) is no folder here"),
        (["--model", "{}/pairs"], "`model` ({}/pairs) holds neither config.json"),
        (["--ref_model", "{}/model"], "Name a `model`, too."),
        (["--model", "{}/model", "--ref_model", "{}/gone"], "`ref_model` ({}/gone) is no folder here"),
        (["--model", "{}/model", "--batch_size", "0"], "`batch_size` must be at least 1, got 0"),
    ],
)
def test_errors_name_the_setting(pairs, tmp_path, capsys, flags, error):
    assert cli(["report", str(pairs), *(flag.format(tmp_path) for flag in flags)]) == 2
    assert error.format(tmp_path) in capsys.readouterr().err
    assert not (pairs / "report.html").exists()
