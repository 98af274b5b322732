import json
from pathlib import Path

import pytest
from support.files import save_rows
from support.rows import tiny_pairs

from trl_mm.cli.main import main as cli
from trl_mm.scripts.ppo import main
from trl_mm.scripts.reward import main as train_reward


LENGTH = '{"length": {"target": 20}}'
SMALL = [
    *("--bf16", "False", "--use_cpu", "True", "--report_to", "none", "--save_strategy", "no", "--dtype", "float32")
]
LORA = ["--use_peft", "true", "--lora_r", "2"]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return save_rows(tmp_path_factory.mktemp("pairs") / "train.jsonl", tiny_pairs(6))


@pytest.fixture(scope="module")
def reward(checkpoint, pairs, tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("reward"))
    rows = ["--model_name_or_path", checkpoint, "--dataset_name", str(pairs), "--output_dir", folder]
    train_reward([*rows, *SMALL, *LORA, "--max_steps", "1"])
    return folder


def flags(checkpoint, pairs, output, *more, rewards=(LENGTH,)):
    return [
        *("--model_name_or_path", checkpoint, "--dataset_name", str(pairs), "--output_dir", str(output), *SMALL),
        *("--max_steps", "2", "--per_device_train_batch_size", "2", "--max_completion_length", "4"),
        *("--logging_steps", "1", "--reward_funcs", *rewards, *more),
    ]


def test_a_policy_is_trained_on_the_adapters_of_trl_mm_reward(checkpoint, pairs, reward, tmp_path):
    more = [*LORA, "--normalize_rewards", "true", "--value_adapter", reward]
    main(flags(checkpoint, pairs, tmp_path / "out", *more, rewards=[reward, LENGTH]))
    value = json.loads((tmp_path / "out" / "value" / "adapter_config.json").read_text())
    assert value["task_type"] == "SEQ_CLS"
    scales = json.loads((tmp_path / "out" / "reward_scale.json").read_text())
    assert len(scales["scales"]) == 2 and scales["weights"][0] is not None
    history = json.loads((tmp_path / "out" / "trainer_state.json").read_text())["log_history"]
    assert {"objective/kl", "objective/scores", "loss/value_avg", "val/clipfrac_avg"} <= history[0].keys()
    card = (tmp_path / "out" / "README.md").read_text()
    assert "ppo" in card and "Proximal Policy Optimization" in card


def test_the_value_model_is_in_the_estimate(checkpoint, pairs, tmp_path, capsys):
    assert (
        cli(["ppo", *flags(checkpoint, pairs, tmp_path / "out", *LORA, "--dry_run", "true", "--max_steps", "-1")]) == 0
    )
    said = capsys.readouterr().out
    # Of 6 rows, one answer each in batches of 2, four passes; and 2 x 2 layers with 2,336 weights in their adapters
    assert "Steps: 12 in an epoch" in said and "Expected memory" in said and "Not counted: reward models" in said
    assert not (tmp_path / "out").exists()


def test_bad_settings_are_one_line(checkpoint, pairs, reward, tmp_path, capsys):
    other = tmp_path / "other"
    other.mkdir()
    config = json.loads(Path(reward, "adapter_config.json").read_text())
    (other / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": "another/base"}))
    cases = [
        ([], [LENGTH], "PPO trains LoRA adapters"),
        (LORA, [str(other)], "has adapters for `another/base`, and the policy is"),
        ([*LORA, "--value_adapter", str(other)], [LENGTH], "has adapters for `another/base`"),
        ([*LORA, "--lam", "1.5"], [LENGTH], "`lam` must be in [0, 1], got 1.5"),
        ([*LORA, "--num_iterations", "0"], [LENGTH], "`num_iterations` must be at least 1"),
    ]
    for more, rewards, message in cases:
        assert cli(["ppo", *flags(checkpoint, pairs, tmp_path / "x", *more, rewards=rewards)]) == 2
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert message in line
