import json

import pytest
from support.files import save_rows
from support.rows import tiny_pairs

from trl_mm.cli.main import main as cli
from trl_mm.scripts.reward import main as train_reward
from trl_mm.scripts.rloo import main


LENGTH = '{"length": {"target": 20}}'


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    return save_rows(folder / "train.jsonl", tiny_pairs(6))


def flags(checkpoint, pairs, output, *more, rewards=(LENGTH,)):
    return [
        *("--model_name_or_path", checkpoint, "--dataset_name", str(pairs), "--output_dir", str(output)),
        *("--max_steps", "2", "--per_device_train_batch_size", "4", "--bf16", "False", "--use_cpu", "True"),
        *("--report_to", "none", "--save_strategy", "no", "--dtype", "float32", "--max_completion_length", "4"),
        *("--num_generations", "4", "--logging_steps", "1", "--reward_funcs", *rewards, *more),
    ]


def test_a_model_is_trained_on_a_reward_model_and_a_rule(checkpoint, pairs, tmp_path, capsys):
    common = [*("--bf16", "False", "--use_cpu", "True", "--report_to", "none", "--save_strategy", "no")]
    reward = str(tmp_path / "reward")
    rows = ["--model_name_or_path", checkpoint, "--dataset_name", str(pairs), "--output_dir", reward]
    train_reward([*rows, *common, "--max_steps", "1", "--use_peft", "true", "--lora_r", "2", "--dtype", "float32"])
    more = ["--use_peft", "true", "--lora_r", "2", "--normalize_rewards", "true", "--reward_weights", "1.0", "0.5"]
    main(flags(checkpoint, pairs, tmp_path / "out", *more, rewards=[reward, LENGTH]))
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert "language_model" in str(config["target_modules"])
    scales = json.loads((tmp_path / "out" / "reward_scale.json").read_text())
    assert scales["rewards"] == ["reward", "length"] and len(scales["scales"]) == 2
    history = json.loads((tmp_path / "out" / "trainer_state.json").read_text())["log_history"]
    assert {"rewards/reward/mean", "rewards/length/mean", "frac_reward_equal"} <= history[0].keys()
    card = (tmp_path / "out" / "README.md").read_text()
    assert "rloo" in card and "normalize_rewards: true" in card and "reward, length" in card


def test_what_it_would_take_is_said_without_weights(checkpoint, pairs, tmp_path, capsys):
    more = ["--dry_run", "true", "--num_iterations", "2", "--gradient_accumulation_steps", "2", "--max_steps", "-1"]
    assert cli(["rloo", *flags(checkpoint, pairs, tmp_path / "out", *more)]) == 0
    said = capsys.readouterr().out
    assert "Expected memory" in said and "16 of them of answers" in said and "Not counted: reward models" in said
    # Six rows, three generations of two prompts, each in two steps
    assert "Steps: 6 in an epoch" in said and "8 answers in a step" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("rewards", "more", "message"),
    [
        (["lenght"], [], "`reward_funcs`: lenght is no reward that is known here"),
        (["exact_match"], [], "answer"),
        ([LENGTH], ["--max_completion_length", "0"], "`max_completion_length` must be at least 1"),
        ([LENGTH], ["--max_length", "30"], "less `max_completion_length` (4)"),
        ([LENGTH], ["--gradient_accumulation_steps", "8"], "`train_dataset` has 6 rows"),
        ([LENGTH], ["--eval_strategy", "steps"], "there are no rows for it"),
        ([LENGTH], ["--num_generations", "3"], "divisible by num_generations"),
    ],
)
def test_bad_settings_are_one_line(checkpoint, pairs, tmp_path, capsys, rewards, more, message):
    assert cli(["rloo", *flags(checkpoint, pairs, tmp_path / "x", *more, rewards=rewards)]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert message in line


def test_what_rewards_the_answers_is_needed(checkpoint, pairs, tmp_path, capsys):
    words = flags(checkpoint, pairs, tmp_path / "x")
    del words[words.index("--reward_funcs") :]
    assert cli(["rloo", *words]) == 2
    assert "error: `reward_funcs` is missing" in capsys.readouterr().err
