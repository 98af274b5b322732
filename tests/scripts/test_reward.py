import json

import pytest
from support.files import save_rows
from support.rows import tiny_pairs
from transformers import AutoModelForSequenceClassification

from trl_mm.cli.main import main as cli
from trl_mm.reward.scorer import RewardModel
from trl_mm.scripts.reward import main


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    return save_rows(folder / "train.jsonl", tiny_pairs(6))


def flags(checkpoint, pairs, output, *more):
    return [
        *("--model_name_or_path", checkpoint, "--dataset_name", str(pairs), "--output_dir", str(output)),
        *("--max_steps", "2", "--per_device_train_batch_size", "2", "--bf16", "False", "--use_cpu", "True"),
        *("--report_to", "none", "--save_strategy", "no", "--dtype", "float32", *more),
    ]


def test_a_reward_model_is_trained_evaluated_and_used(checkpoint, pairs, tmp_path, capsys):
    others = json.dumps({"held_out": str(pairs), "again": str(pairs)})
    main(flags(checkpoint, pairs, tmp_path / "out", "--eval_datasets", others))
    shown = capsys.readouterr().out
    lines = [line.split() for line in shown.splitlines() if line.startswith(("held_out", "again"))]
    assert len(lines) == 2 and lines[0][1:] == lines[1][1:] and lines[0][1].endswith("%")
    assert "reads the text only" in shown
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert model.config.num_labels == 1
    card = (tmp_path / "out" / "README.md").read_text()
    assert "AutoModelForSequenceClassification" in card and "reward-trainer" in card
    assert "which of two answers" in card and "trl-mm eval" not in card
    question = [{"role": "user", "content": "What is it?"}]
    (reward,) = RewardModel(str(tmp_path / "out"))([question], [[{"role": "assistant", "content": "A dog."}]])
    assert isinstance(reward, float)


def test_an_adapter_is_saved_with_its_score(checkpoint, pairs, tmp_path):
    main(flags(checkpoint, pairs, tmp_path / "out", "--use_peft", "true", "--lora_r", "2"))
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["task_type"] == "SEQ_CLS"
    question = [{"role": "user", "content": "What is it?"}]
    (reward,) = RewardModel(str(tmp_path / "out"))([question], [[{"role": "assistant", "content": "A dog."}]])
    assert isinstance(reward, float)


def test_what_it_would_take_is_said_without_weights(checkpoint, pairs, tmp_path, capsys):
    assert cli(["reward", *flags(checkpoint, pairs, tmp_path / "out", "--dry_run", "true")]) == 0
    assert "Expected memory" in capsys.readouterr().out and not (tmp_path / "out").exists()


def test_an_evaluation_needs_rows(checkpoint, pairs, tmp_path, capsys):
    assert cli(["reward", *flags(checkpoint, pairs, tmp_path / "x", "--eval_strategy", "steps")]) == 2
    assert "there are no rows for it" in capsys.readouterr().err


def test_bad_settings_are_one_line(checkpoint, pairs, tmp_path, capsys):
    assert cli(["reward", *flags(checkpoint, pairs, tmp_path / "x", "--eval_datasets", "rlhf_v")]) == 2
    assert "`eval_datasets` (rlhf_v) is no JSON" in capsys.readouterr().err
