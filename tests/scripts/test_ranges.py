import pytest

from trl_mm.cli import main as cli


MODEL = ["--model_name_or_path", "me/model"]
TRAINING = [*MODEL, "--dataset_name", "x", "--bf16", "false", "--use_cpu"]
COMMANDS = {
    "dpo": TRAINING,
    "online-dpo": TRAINING,
    "bdhs": [*MODEL, "--dataset_name", "x"],
    "eval": [*MODEL, "--annotations", "x", "--image_folder", "x"],
    "judge": [*MODEL, "--dataset_name", "x"],
}


@pytest.mark.parametrize(
    ("command", "name", "value", "error"),
    [
        ("bdhs", "shard_size", "0", "must be at least 1, got 0"),
        ("bdhs", "max_rows", "-1", "must be at least 1, got -1"),
        ("bdhs", "batch_size", "0", "must be at least 1"),
        ("eval", "max_images", "-1", "must be at least 1, got -1"),
        ("eval", "batch_size", "0", "must be at least 1"),
        ("eval", "max_new_tokens", "-5", "must be at least 1"),
        ("eval", "pope_questions_per_image", "0", "must be at least 2"),
        ("eval", "seed", "-1", "must be at least 0"),
        ("judge", "shard_size", "0", "must be at least 1"),
        ("judge", "timeout", "0", "must be positive"),
        ("judge", "timeout", "nan", "must be a number, got nan"),
        ("dpo", "per_device_train_batch_size", "0", "must be at least 1"),
        ("dpo", "gradient_accumulation_steps", "0", "must be at least 1"),
        ("dpo", "learning_rate", "nan", "must be a number"),
        ("dpo", "num_train_epochs", "-1", "must be at least 0.0"),
        ("dpo", "max_length", "0", "must be at least 1"),
        ("online-dpo", "max_new_tokens", "0", "must be at least 1"),
    ],
)
def test_numbers_out_of_range_are_one_line(tmp_path, capsys, command, name, value, error):
    flags = [*COMMANDS[command], "--output_dir", str(tmp_path / "out"), f"--{name}={value}"]
    assert cli.main([command, *flags]) == 2
    shown = capsys.readouterr().err.splitlines()[-1]
    assert shown.startswith(f"error: `{name}` ") and error in shown
    assert not (tmp_path / "out").exists()


def test_a_list_in_a_recipe_is_no_number(tmp_path, capsys):
    (tmp_path / "recipe.yaml").write_text("shard_size: [1]\n")
    flags = [*COMMANDS["bdhs"], "--output_dir", str(tmp_path / "out"), "--config", str(tmp_path / "recipe.yaml")]
    assert cli.main(["bdhs", *flags]) == 2
    assert "`shard_size` must be a whole number, got [1]" in capsys.readouterr().err
