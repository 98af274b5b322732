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
    lines = [line.split() for line in shown.splitlines() if line.startswith(("held_out ", "again "))]
    assert len(lines) == 6, "three tables"
    assert lines[0][1:] == lines[1][1:] and lines[0][1] == "6" and lines[0][2].endswith("%")
    assert "reads the text only" in shown
    told = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert set(told) == {"held_out", "again", "held_out_blind", "again_blind"}
    assert f"{told['held_out']['ece']:.3f}" == lines[0][-1]
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert model.config.num_labels == 1
    card = (tmp_path / "out" / "README.md").read_text()
    assert "AutoModelForSequenceClassification" in card and "reward-trainer" in card
    assert "which of two answers" in card and "trl-mm eval" not in card
    assert "## Evaluation" in card and "| again | 6 |" in card
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


@pytest.mark.parametrize("adapters", [[], ["--use_peft", "true", "--lora_r", "2"]], ids=["full", "lora"])
def test_a_trained_model_is_evaluated_without_training(checkpoint, pairs, tmp_path, capsys, adapters):
    others = ["--eval_datasets", json.dumps({"held_out": str(pairs)})]
    main(flags(checkpoint, pairs, tmp_path / "out", *others, *adapters))
    first = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    capsys.readouterr()
    recipe = flags(str(tmp_path / "out"), pairs, tmp_path / "again", "--eval_only", "true", *adapters)
    main([*recipe, *others, "--eval_strategy", "no"])
    again = json.loads((tmp_path / "again" / "evaluation.json").read_text())
    assert again["held_out"]["ece"] == pytest.approx(first["held_out"]["ece"], abs=1e-5)
    assert [path.name for path in (tmp_path / "again").iterdir()] == ["evaluation.json"]
    assert "Accuracy:" in capsys.readouterr().out
    main([*recipe, "--dataset_test_split", "train", "--blind_eval", "false"])
    assert set(json.loads((tmp_path / "again" / "evaluation.json").read_text())) == {"test"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ([], "`eval_only` needs rows"),
        (["--dry_run", "true", "--dataset_test_split", "train"], "`eval_only` trains nothing"),
        (["--dataset_test_split", "train"], "has no trained score"),
        (["--datasets", '[{"path": "a"}]'], "`eval_only` reads no `datasets`"),
    ],
)
def test_an_evaluation_that_cannot_be_is_one_line(checkpoint, pairs, tmp_path, capsys, settings, message):
    assert cli(["reward", *flags(checkpoint, pairs, tmp_path / "x", "--eval_only", "true", *settings)]) == 2
    assert message in capsys.readouterr().err


def test_what_it_would_take_is_said_without_weights(checkpoint, pairs, tmp_path, capsys):
    assert cli(["reward", *flags(checkpoint, pairs, tmp_path / "out", "--dry_run", "true")]) == 0
    assert "Expected memory" in capsys.readouterr().out and not (tmp_path / "out").exists()


def test_an_evaluation_needs_rows(checkpoint, pairs, tmp_path, capsys):
    assert cli(["reward", *flags(checkpoint, pairs, tmp_path / "x", "--eval_strategy", "steps")]) == 2
    assert "there are no rows for it" in capsys.readouterr().err


def test_bad_settings_are_one_line(checkpoint, pairs, tmp_path, capsys):
    assert cli(["reward", *flags(checkpoint, pairs, tmp_path / "x", "--eval_datasets", "rlhf_v")]) == 2
    assert "`eval_datasets` (rlhf_v) is no JSON" in capsys.readouterr().err
