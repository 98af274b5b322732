import json
import weakref

import pytest
from torch.utils.flop_counter import FlopCounterMode
from trl import DPOConfig

from trl_mm.bench import dpo
from trl_mm.bench.dpo_config import DPOBenchmark
from trl_mm.bench.shared_rows import distinct
from trl_mm.cli.main import main


def benchmark(**changes):
    tiny = {"size": "tiny", "image_size": ["56x56", "28x56"], "response_tokens": [4, 9], "rounds": 2, "memory": False}
    return DPOBenchmark(**{**tiny, **changes})


@pytest.mark.parametrize("changes", [{}, {"use_peft": True, "gradient_checkpointing": True}], ids=["full", "lora"])
def test_both_sides_train_on_the_same_rows_from_the_same_weights(changes):
    result = dpo.measure(benchmark(**changes))
    ours, theirs = result["sides"]["trl_mm"], result["sides"]["trl"]
    assert len(ours["losses"]) == len(theirs["losses"]) == 3 and len(set(ours["losses"])) == 3
    assert result["max_loss_difference"] < 1e-5 and result["max_grad_norm_difference"] < 1e-4
    low, high = result["ratio_spread"]
    assert 0 < low <= result["ratio"] <= high
    assert ours["pairs_per_second"] == 2 / ours["seconds_per_step"]
    assert result["floor"]["answer_tokens"] == [4, 9]
    for side in (ours, theirs):
        assert sum(side["parts"].values()) > 0 and side["device_seconds"] is None
        assert 0 <= side["wall_clock"]["loader_wait"] < side["wall_clock"]["seconds_per_step"]
    clocks = [side["wall_clock"]["seconds_per_step"] for side in (ours, theirs)]
    assert result["wall_ratio"] == clocks[1] / clocks[0] and result["bf16"] is False


def test_sides_that_are_in_memory_one_at_a_time_train_alike(monkeypatch):
    alive, made = [], dpo.make_trainer

    def make_trainer(name, *args):
        alive.append([name, *[other for other, trainer in trainers.items() if trainer() is not None]])
        trainer = made(name, *args)
        trainers[name] = weakref.ref(trainer)
        return trainer

    trainers = {}
    monkeypatch.setattr(dpo, "make_trainer", make_trainer)
    result = dpo.measure(benchmark(one_at_a_time=True, wall_clock=False))
    assert alive == [["trl_mm"], ["trl"]]
    assert result["max_loss_difference"] < 1e-5 and "wall_clock" not in result["sides"]["trl"]


def test_in_bfloat16_both_sides_are_compared_with_float32():
    result = dpo.measure(benchmark(bf16=True, use_peft=True, wall_clock=False, rounds=1))
    distances = [side["from_float32"] for side in result["sides"].values()]
    # bfloat16 has 8 bits, a loss sums 9 log-probabilities of about 5.5
    assert result["bf16"] and all(0 < distance < 0.1 for distance in distances)
    assert "from a float32 run: trl_mm" in dpo.summary(result)
    plain = dpo.measure(benchmark(use_peft=True, wall_clock=False, rounds=1))
    assert "from_float32" not in plain["sides"]["trl"]


def test_the_defaults_are_trls():
    ours, theirs = DPOBenchmark(), DPOConfig("unused", bf16=False, use_cpu=True)
    theirs = [getattr(theirs, name, False) for name in ("gradient_checkpointing", "activation_checkpointing")]
    assert ours.gradient_checkpointing == any(theirs)


@pytest.mark.parametrize(
    ("rows", "batch_size", "images"),
    [("six_pairs", 6, 3), pytest.param("four_questions", 4, 3, marks=pytest.mark.slow)],
)
def test_rows_that_share_an_image_are_trained_on_alike(rows, batch_size, images, tmp_path):
    settings = benchmark(rows=rows, batch_size=batch_size, image_size=["56x56"])
    result = dpo.measure(settings)
    assert result["max_loss_difference"] < 1e-5 and result["max_grad_norm_difference"] < 1e-4
    trainer = dpo.make_trainer(dpo.OURS, settings, tmp_path)
    assert len({image["bytes"] for row in trainer.train_dataset for image in row["images"]}) == images
    batch = next(iter(trainer.get_train_dataloader()))
    assert batch["groups"].tolist() == [0] * batch_size
    # Each prompt and each answer once, without its last token; of a question the floor counts nothing
    prompts, answers = zip(*[(1, [10 + row, 20 + row]) for row in range(len(trainer.train_dataset))], strict=True)
    found, behind = distinct(trainer.train_dataset, prompts, answers)
    assert found == [1] * images and {len(lengths) for lengths in behind} == {4 if rows == "six_pairs" else 8}


def test_a_cached_reference_is_compared_with_one_that_runs_in_every_step():
    result = dpo.measure(benchmark(precompute_ref_log_probs=True, rounds=1))
    sides, reference = result["sides"], result["reference"]
    assert list(sides) == ["trl_mm", "uncached", "trl"] and result["max_loss_difference"] < 1e-5
    assert sides["uncached"]["losses"] == pytest.approx(sides["trl"]["losses"], rel=1e-5)
    assert reference["seconds_per_pair"] > 0
    saved = sides["uncached"]["seconds_per_step"] / 2 - sides["trl_mm"]["seconds_per_step"] / 2
    assert reference["saved_per_pair"] == pytest.approx(saved)


@pytest.mark.parametrize("use_peft", [False, True])
@pytest.mark.parametrize("gradient_checkpointing", [False, True])
def test_the_floor_is_what_a_step_really_computes(tmp_path, use_peft, gradient_checkpointing):
    settings = benchmark(
        attn_implementation="eager",
        use_peft=use_peft,
        gradient_checkpointing=gradient_checkpointing,
        image_size=["56x56"],
        response_tokens=[15],
    )
    trainer = dpo.make_trainer(dpo.OURS, settings, tmp_path)
    step = dpo.Steps(trainer)
    with FlopCounterMode(display=False) as counted:
        step()
    # `eager` computes the masked half of the attention too,
    # and the input of the first layer needs no gradient
    assert 0.98 <= counted.get_total_flops() / dpo._floor(settings, trainer)["flops"] <= 1.2


def test_the_command_prints_and_writes_the_figures(tmp_path, capsys):
    flags = "--size tiny --image_size 28x28 --response_tokens 5 --rounds 1 --memory false --vs none"
    assert main(["bench", "dpo", *flags.split(), "--json", str(tmp_path / "figures" / "dpo.json")]) == 0
    printed = capsys.readouterr().out
    assert "answers 5;" in printed and "trl_mm" in printed and "as fast as" not in printed
    result = json.loads((tmp_path / "figures" / "dpo.json").read_text())
    assert result["settings"]["image_size"] == ["28x28"] and "ratio" not in result


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        ("--vs torchtune", "vs"),
        ("--image_size 672", "`image_size` must be like 672x672, got '672'"),
        ("--response_tokens 0", "`response_tokens` must be one or two numbers from 1"),
        ("--size huge --memory false", "`size` must be one of tiny, small, 7b, got 'huge'"),
        ("--arch gpt --memory false", "`arch` must be one of llava-next, got 'gpt'"),
        ("--rounds 0", "`rounds` must be at least 1, got 0"),
    ],
)
def test_wrong_settings_are_one_line(flags, error, capsys):
    try:
        assert main(["bench", "dpo", *flags.split()]) == 2
    except SystemExit as stop:  # argparse itself
        assert stop.code == 2
    assert error in capsys.readouterr().err
