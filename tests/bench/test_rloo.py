import json

import pytest

from trl_mm.bench.rloo_config import RLOOBenchmark
from trl_mm.cli.main import main


rloo = pytest.importorskip("trl_mm.bench.rloo", exc_type=ImportError)


def benchmark(**changes):
    tiny = {"size": "tiny", "image_size": ["56x28"], "new_tokens": 5, "rounds": 2, "memory": False}
    return RLOOBenchmark(**{**tiny, **changes})


@pytest.mark.parametrize("changes", [{}, {"batch_size": 2, "gradient_checkpointing": False}], ids=["default", "two"])
def test_both_sides_lose_the_same_on_the_answers_that_trl_samples(changes):
    result = rloo.measure(benchmark(**changes))
    ours, theirs = result["sides"]["trl_mm"], result["sides"]["trl"]
    assert len(ours["losses"]) == len(theirs["losses"]) == 3 and all(theirs["grad_norms"])
    assert result["max_loss_difference"] < 1e-5 and result["max_grad_norm_difference"] < 1e-3
    low, high = result["ratio_spread"]
    assert 0 < low <= result["ratio"] <= high and result["training_ratio"] > 0
    for side in (ours, theirs):
        assert 0 < side["sampling_seconds"] < side["seconds_per_step"]


@pytest.mark.parametrize("name", [rloo.OURS, rloo.TRL])
def test_each_side_samples_as_many_tokens(name, tmp_path):
    trainer = rloo.make_trainer(name, benchmark(batch_size=2, rounds=1), tmp_path)
    sampled = rloo.watch_sampling(trainer)
    rloo.Steps(trainer)()
    (answers,) = sampled.results
    assert [len(ids) for ids in answers] == [5] * 8


def test_the_command_prints_and_writes_the_figures(tmp_path, capsys):
    flags = "--size tiny --image_size 28x28 --new_tokens 3 --rounds 1 --memory false --vs none"
    assert main(["bench", "rloo", *flags.split(), "--json", str(tmp_path / "rloo.json")]) == 0
    printed = capsys.readouterr().out
    assert "4 answers of 3" in printed and "trl_mm" in printed and "as fast as" not in printed
    assert list(json.loads((tmp_path / "rloo.json").read_text())["sides"]) == ["trl_mm"]


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        ("--num_generations 1", "`num_generations` must be at least 2, got 1"),
        ("--new_tokens 0", "`new_tokens` must be at least 1, got 0"),
        ("--use_peft false", "`use_peft=False` needs `model`"),
    ],
)
def test_wrong_settings_are_one_line(flags, error, capsys):
    assert main(["bench", "rloo", *flags.split()]) == 2
    assert error in capsys.readouterr().err
