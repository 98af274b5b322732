import json

import pytest
import torch
from trl.experimental.online_dpo import OnlineDPOConfig

from trl_mm.bench import online_dpo
from trl_mm.bench.online_dpo_config import OnlineDPOBenchmark
from trl_mm.cli.main import main


def benchmark(**changes):
    tiny = {"size": "tiny", "image_size": ["56x28"], "new_tokens": 5, "rounds": 2, "memory": False}
    return OnlineDPOBenchmark(**{**tiny, **changes})


@pytest.mark.parametrize(
    "changes", [{}, {"use_peft": True, "gradient_checkpointing": False, "batch_size": 2}], ids=["default", "lora"]
)
def test_both_sides_lose_the_same_on_the_answers_that_trl_samples(changes):
    result = online_dpo.measure(benchmark(**changes))
    ours, theirs = result["sides"]["trl_mm"], result["sides"]["trl"]
    assert len(ours["losses"]) == len(theirs["losses"]) == 3 and len(set(theirs["grad_norms"])) == 3
    assert result["max_loss_difference"] < 1e-5 and result["max_grad_norm_difference"] < 1e-4
    low, high = result["ratio_spread"]
    assert 0 < low <= result["ratio"] <= high
    for side in (ours, theirs):
        assert side["steps_per_second"] == 1 / side["seconds_per_step"] > 0
        assert 0 < side["sampling_seconds"] < side["seconds_per_step"]


@pytest.mark.parametrize("name", [online_dpo.OURS, online_dpo.TRL])
def test_each_side_samples_as_many_tokens_and_sees_the_image(name, tmp_path):
    """The EOS token and the image token are what random weights would write if they could."""
    settings = benchmark(batch_size=2, rounds=1)
    trainer = online_dpo.make_trainer(name, settings, tmp_path)
    encoded = []
    trainer.model.base_model.vision_tower.register_forward_hook(lambda *_: encoded.append(1))
    head = trainer.model.get_output_embeddings()
    wanted = [trainer._tokenizer.eos_token_id, trainer.processing_class.image_token_id]

    def insist(module, inputs, logits):
        return logits.index_fill(-1, torch.tensor(wanted), 1e4)

    head.register_forward_hook(insist)
    sampled = online_dpo.watch_sampling(name, trainer)
    online_dpo.Steps(trainer)()
    (answers,) = sampled.results
    answers = torch.as_tensor(answers)
    assert answers.numel() == 2 * 2 * 5 and not torch.isin(answers, torch.tensor(wanted)).any()
    assert encoded


def test_the_defaults_are_trls():
    theirs, ours = OnlineDPOConfig("unused", bf16=False, use_cpu=True), OnlineDPOBenchmark()
    assert (ours.gradient_checkpointing, ours.new_tokens) == (theirs.gradient_checkpointing, theirs.max_new_tokens)


def test_the_command_prints_and_writes_the_figures(tmp_path, capsys):
    flags = "--size tiny --image_size 28x28 --new_tokens 3 --rounds 1 --memory false --vs none"
    assert main(["bench", "online-dpo", *flags.split(), "--json", str(tmp_path / "online.json")]) == 0
    printed = capsys.readouterr().out
    assert "two answers of 3" in printed and "trl_mm" in printed and "as fast as" not in printed
    result = json.loads((tmp_path / "online.json").read_text())
    assert result["settings"]["new_tokens"] == 3 and list(result["sides"]) == ["trl_mm"]


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        ("--new_tokens 0", "`new_tokens` must be at least 1, got 0"),
        ("--image_size 672", "`image_size` must be like 672x672, got '672'"),
        ("--batch_size 0", "`batch_size` must be at least 1, got 0"),
    ],
)
def test_wrong_settings_are_one_line(flags, error, capsys):
    assert main(["bench", "online-dpo", *flags.split()]) == 2
    assert error in capsys.readouterr().err
