import json
import re
import sys
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
import yaml
from datasets import Dataset
from huggingface_hub import ModelCard
from support.files import save_rows
from support.rows import tiny_pairs
from support.tiny import save_tiny, tiny_image
from transformers import TrainerState

from trl_mm import MMDPOConfig, MMDPOTrainer, MMOnlineDPOConfig
from trl_mm.scripts.dpo import main
from trl_mm.trainer import model_card
from trl_mm.trainer.model_card import changed_settings, plain, shown, write_model_card


FLAGS = (
    "--max_steps 2 --per_device_train_batch_size 2 --learning_rate 1e-2 --logging_steps 1 --use_cpu --bf16 false "
    "--report_to none --save_strategy no --dtype float32 --dataset_test_split train --eval_strategy steps "
    "--eval_steps 1"
).split()
BDHS = {"similarity": "lexical", "max_sentence_tokens": 4, "max_answer_tokens": 4}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """`base`, `pairs.jsonl` with its images, and a picture."""
    folder = tmp_path_factory.mktemp("card")
    save_tiny(folder / "base", scale=4)
    save_rows(folder / "pairs.jsonl", tiny_pairs(3))
    tiny_image(9).save(folder / "image.jpg")
    return folder


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)\n```$", text, flags=re.DOTALL | re.MULTILINE)


def cells(text, head):
    lines = text.split(f"\n| {head} |", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_the_card_of_a_command_says_what_was_run_and_its_code_runs(folder, monkeypatch, capsys, lora):
    name = "adapter" if lora else "aligned"
    source = ["--model_name_or_path", str(folder / "base"), "--dataset_name", str(folder / "pairs.jsonl")]
    more = ["--use_peft", "--lora_r", "2", "--bdhs", json.dumps(BDHS)] if lora else ["--beta", "0.3"]
    main([*source, "--output_dir", str(folder / name), *FLAGS, *more])
    card = ModelCard.load(folder / name / "README.md")
    data = card.data.to_dict()
    assert data["pipeline_tag"] == "image-text-to-text" and "base_model" not in data and "datasets" not in data
    assert {"generated_from_trainer", "trl", "trl-mm", "dpo"} <= set(data["tags"])
    assert data["library_name"] == ("peft" if lora else "transformers") and ("lora" in data["tags"]) == lora
    assert card.text.strip().startswith(f"# {name}\n") and "from base\n" in card.text
    assert ("a LoRA adapter of it (rank 2, alpha 32)" in card.text) == ("trl-mm merge" in card.text) == lora
    assert "3 rows of pairs.jsonl, 3 rows to evaluate on." in card.text
    assert ("on the way by BDHSDataGenerator" in card.text) == lora
    assert str(folder) not in str(card), "a path of this machine"

    (recipe,) = map(yaml.safe_load, blocks(card.text, "yaml"))
    expected = {"model_name_or_path": "base", "dataset_name": "pairs.jsonl", "learning_rate": 0.01, "max_steps": 2}
    assert expected.items() <= recipe.items() and not {"output_dir", "report_to"} & recipe.keys()
    assert recipe.get("bdhs") == (BDHS if lora else None) and recipe.get("beta") == (None if lora else 0.3)

    log = json.loads((folder / name / "trainer_state.json").read_text())["log_history"]
    margins = [(entry["eval_rewards/margins"], entry["step"]) for entry in log if "eval_loss" in entry]
    table = {metric: [last, best, step] for metric, last, best, step in cells(card.text, "metric")}
    best, step = max(margins)
    assert table["eval_rewards/margins"] == [f"{margins[-1][0]:.4g}", f"{best:.4g}", str(step)]
    assert {"loss", "rewards/margins", "eval_loss", "eval_rewards/accuracies"} <= set(table)
    for file in re.findall(r"^!\[.*\]\((.*)\)$", card.text, flags=re.MULTILINE):
        texts = {element.text for element in ElementTree.parse(folder / name / file).iter() if element.text}
        assert {"step", "training", "evaluation"} <= texts
    assert len(list((folder / name).glob("*.svg"))) == 2

    (code,) = blocks(card.text, "python")
    monkeypatch.chdir(folder)
    capsys.readouterr()
    exec(code, {})
    assert capsys.readouterr().out.strip()


class Trainer:
    """As much of a trainer as a card shows."""

    def __init__(self, folder, **facts):
        self.args = MMDPOConfig(str(folder), use_cpu=True, bf16=False, report_to="none")
        self.model = torch.nn.Module()
        self.model.config = SimpleNamespace(_name_or_path="me/base")
        self.train_dataset, self.eval_dataset, self.state = [1, 2], None, TrainerState()
        self.recipe, self._tag_names, self._paper = None, ["trl-mm"], MMDPOTrainer._paper
        vars(self).update(facts)

    def is_world_process_zero(self):
        return True

    def card(self, *arguments):
        write_model_card(self, *arguments)
        return ModelCard.load(f"{self.args.output_dir}/README.md")


def test_names_on_the_hub_are_linked_and_in_the_metadata(tmp_path):
    card = Trainer(tmp_path / "out").card("my model", "me/pairs", "extra")
    data = card.data.to_dict()
    assert data["base_model"] == "me/base" and data["datasets"] == "me/pairs" and "extra" in data["tags"]
    assert data["base_model_relation"] == "finetune" and card.text.strip().startswith("# my model\n")
    assert "[me/base](https://huggingface.co/me/base)" in card.text
    assert "2 rows of [me/pairs](https://huggingface.co/datasets/me/pairs)." in card.text
    assert "## Results" not in card.text  # nothing was trained


def test_the_code_names_the_repository_with_its_owner(tmp_path):
    (code,) = blocks(Trainer(tmp_path / "out", hub_model_id="me/out").card().text, "python")
    assert code.count('from_pretrained("me/out"') == 2


@pytest.mark.parametrize(
    "text",
    [
        "| a | b |\n# heading\n--- <script>alert(1)</script> [x](javascript:1) ![y](z)",
        "`code` ``` {{ 7 * 7 }} {% raw %} *bold* __all__ \\| <!--",
        "a\n```\n<script>alert(1)</script>\n'''\"\"\"",
        "half a pair \ud83d, bell \a, nul \0",
        "long " * 200,
    ],
)
def test_hostile_values_change_nothing_around_them(tmp_path, text):
    trainer = Trainer(tmp_path / "out", recipe={"beta": 1, "source": plain(text)})
    trainer.model.config._name_or_path = text
    trainer.args.hub_model_id = text
    trainer.reward_func_names = [text]
    content = str(trainer.card(text, text, [text]))
    plain_card = str(Trainer(tmp_path / "plain").card())
    front, body = re.fullmatch(r"---\n(.*?)\n---\n(.*)", content, flags=re.DOTALL).groups()
    assert set(yaml.safe_load(front)) == set(yaml.safe_load(plain_card.split("---\n")[1])) - {"base_model"}
    for fence in re.findall(r"^(`{3,})\w+\n", body, flags=re.MULTILINE)[:3]:
        body = re.sub(rf"^{fence}\w+\n.*?\n{fence}$", "", body, count=1, flags=re.DOTALL | re.MULTILINE)
    assert re.findall(r"^#+ ", body, flags=re.MULTILINE) == re.findall(r"^#+ ", plain_card, flags=re.MULTILINE)
    assert not re.search(r"<|\\|!\[|\]\(javascript|\{\{|\{%|```", body)


def test_rows_that_bdhs_has_made_are_known_by_their_columns(tmp_path):
    rows = Dataset.from_dict({"bdhs_attempts": [1], "rejected": ["A dog."]})
    assert "2407.02477" in Trainer(tmp_path / "out", train_dataset=rows).card().text
    assert "2407.02477" not in Trainer(tmp_path / "other").card().text


@pytest.mark.parametrize(
    ("probability", "origins"),
    [
        (0.0, ["Answers were sampled"]),
        (0.5, ["Stored rejected answers were made with Bias", "Other answers were sampled"]),
        (1.0, ["Rejected answers were made with Bias"]),
    ],
)
def test_answers_that_were_sampled_are_told_from_stored_ones(tmp_path, probability, origins):
    rows = Dataset.from_dict({"bdhs_attempts": [1], "rejected": ["A dog."]})
    facts = {"train_dataset": rows, "judge": object(), "offline_probability": probability}
    text = Trainer(tmp_path / "out", **facts).card().text
    assert text.count(" answers were made ") + text.lower().count("answers were sampled") == len(origins)
    assert all(f"\n{origin}" in text for origin in origins)


def test_a_card_without_matplotlib_has_its_table(tmp_path, monkeypatch):
    def missing(*arguments):
        raise ImportError

    monkeypatch.setattr(model_card, "write_line_plot", missing)
    trainer = Trainer(tmp_path / "out")
    trainer.state.log_history = [{"loss": 0.5, "step": 1}, {"loss": 0.7, "step": 2}]
    text = trainer.card().text
    assert cells(text, "metric") == [["loss", "0.7", "0.5", "1"]] and "![" not in text


def test_logs_with_gaps_have_their_best_finite_value(tmp_path):
    nan, infinite = float("nan"), float("inf")
    trainer = Trainer(tmp_path / "out")
    for losses, last, best, step in (
        ([nan, 0.5, 0.7], "0.7", "0.5", "2"),
        ([infinite, None, "0.1", 3e38], "3e+38", "3e+38", "4"),
        ([0.5, nan], "nan", "0.5", "1"),
        ([nan], "nan", "nan", ""),
    ):
        trainer.state.log_history = [{"loss": loss, "step": index + 1} for index, loss in enumerate(losses)]
        assert cells(trainer.card().text, "metric") == [["loss", last, best, step]]


def test_numbers_of_numpy_are_settings_too(tmp_path):
    args = MMDPOConfig(str(tmp_path), use_cpu=True, bf16=False)
    args.beta, args.seed = np.float64(0.3), np.int64(7)
    recipe = changed_settings(args)
    assert recipe == {"bf16": False, "beta": 0.3, "seed": 7} and yaml.safe_dump(recipe)


def test_settings_that_are_secret_or_about_this_machine_are_left_out(tmp_path):
    args = MMDPOConfig(
        str(tmp_path), use_cpu=True, bf16=False, beta=0.2, hub_token="hf_secret", logging_steps=3, run_name="mine"
    )
    args.ref_log_probs_dir = str(tmp_path)
    assert changed_settings(args) == {"bf16": False, "beta": 0.2}
    judge = {"kind": "remote", "base_url": "http://me:pass@host", "api_key": "x", "max_new_tokens": 4}
    assert (
        plain(judge)
        == plain(json.dumps(judge))
        == plain(f"\n {json.dumps(judge)}")
        == {"kind": "remote", "max_new_tokens": 4}
    )
    assert plain("{% if %}") == "{% if %}" and plain(print) is None and plain([1, ("a", None)]) == [1, ["a", None]]


def test_the_host_of_a_vllm_server_is_left_out(tmp_path):
    args = MMOnlineDPOConfig(str(tmp_path), use_cpu=True, bf16=False, vllm_server_host="gpu7.lab.example")
    assert "gpu7" not in str(changed_settings(args))


def test_of_paths_the_last_part_is_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "base").mkdir(parents=True)
    for path in (
        str(tmp_path / "runs" / "base"),
        "runs/base",
        "./base",
        "~/base",
        "C:\\runs\\base",
        "/gone/base/",
        "..\\base",
    ):
        assert shown(path) == "base", path
    for pattern in (r".*language_model\..*\.(q_proj|v_proj)", r"model\.layers\.\d+/x"):
        assert shown(pattern) == pattern
    assert shown("llava-hf/llava-v1.6-vicuna-7b-hf") == "llava-hf/llava-v1.6-vicuna-7b-hf"


def test_the_commit_is_that_of_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model_card.commit.cache_clear()
    assert model_card.commit() is None
    model_card.commit.cache_clear()
    monkeypatch.setenv("PATH", "")
    assert model_card.commit() is None
    model_card.commit.cache_clear()
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    answers = {"rev-parse": "abc\n", "status": " M file\n"}
    monkeypatch.setattr(
        model_card.subprocess, "run", lambda words, **_: SimpleNamespace(stdout=answers[words[1]]), raising=True
    )
    assert model_card.commit() == "abc with changes"
    model_card.commit.cache_clear()


def test_the_page_of_a_tracker_is_linked(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(run=SimpleNamespace(url="https://wandb.ai/me/7")))
    assert "| wandb | https&#58;//wandb.ai/me/7 |" in Trainer(tmp_path / "out").card().text
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(run=None))
    assert "wandb" not in Trainer(tmp_path / "out").card().text
