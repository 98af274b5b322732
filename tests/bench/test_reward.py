import json

import pytest

from trl_mm.bench import reward
from trl_mm.bench.reward_config import RewardBenchmark
from trl_mm.cli.main import main


def benchmark(**changes):
    tiny = {"size": "tiny", "image_size": ["56x56", "28x56"], "response_tokens": [4, 9], "rounds": 2, "memory": False}
    return RewardBenchmark(**{**tiny, **changes})


@pytest.mark.parametrize("changes", [{}, {"use_peft": True, "gradient_checkpointing": True}], ids=["full", "lora"])
def test_both_sides_train_on_the_same_rows_from_the_same_weights(changes):
    result = reward.measure(benchmark(**changes))
    ours, theirs = result["sides"]["trl_mm"], result["sides"]["trl"]
    assert len(ours["losses"]) == len(theirs["losses"]) == 3 and len(set(ours["losses"])) == 3
    assert result["max_loss_difference"] < 1e-5 and result["max_grad_norm_difference"] < 1e-4
    low, high = result["ratio_spread"]
    assert 0 < low <= result["ratio"] <= high
    assert ours["pairs_per_second"] == 2 / ours["seconds_per_step"]
    assert result["tokens"]["answer_tokens"] == [4, 9] and result["tokens"]["prompt_tokens"][0] > 10


def test_trls_side_sees_the_images(tmp_path):
    settings = benchmark()
    trainer = reward.make_trainer(reward.TRL, settings, tmp_path)
    step = reward.Steps(trainer)
    batch = next(step.batches)
    assert batch["pixel_values"].shape[0] == 4, "once for each answer"
    image_id = trainer.model.config.image_token_id
    assert (batch["input_ids"] == image_id).sum(1).min() > 1


def test_the_command_prints_and_writes_the_figures(tmp_path, capsys):
    flags = "--size tiny --image_size 28x28 --response_tokens 5 --rounds 1 --memory false --vs none"
    assert main(["bench", "reward", *flags.split(), "--json", str(tmp_path / "reward.json")]) == 0
    printed = capsys.readouterr().out
    assert "answers 5\n" in printed and "trl_mm" in printed and "as fast as" not in printed
    assert "ratio" not in json.loads((tmp_path / "reward.json").read_text())
    assert main(["bench", "reward", "--response_tokens", "0"]) == 2
    assert "`response_tokens` must be one or two numbers from 1" in capsys.readouterr().err
