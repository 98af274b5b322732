import json

import pytest

from trl_mm.bench import bdhs
from trl_mm.bench.bdhs_config import BDHSBenchmark
from trl_mm.cli.main import main


def benchmark(**changes):
    tiny = {"size": "tiny", "image_size": "56x28", "rows": 3, "sentences": 2, "max_sentence_tokens": 4, "rounds": 1}
    return BDHSBenchmark(**{**tiny, **changes})


@pytest.mark.parametrize("mask_threshold", [0.0, 0.6, 1.0])
def test_the_direct_way_gives_the_same_answers(mask_threshold):
    result = bdhs.measure(benchmark(naive_rows=3, mask_threshold=mask_threshold))
    assert result["equal_answers"] == 1.0
    assert result["sides"]["naive"]["answers_per_second"] > 0 and result["ratio"] > 0
    assert result["image_tokens"] > 4


def test_the_command_prints_and_writes_the_figures(tmp_path, capsys):
    flags = "--size tiny --image_size 56x28 --rows 2 --sentences 1 --max_sentence_tokens 2 --rounds 1"
    assert main(["bench", "bdhs", *flags.split(), "--json", str(tmp_path / "bdhs.json")]) == 0
    assert "100% of the answers are the same" in capsys.readouterr().out
    assert json.loads((tmp_path / "bdhs.json").read_text())["settings"]["rows"] == 2


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        ("--naive_rows 99", "`naive_rows` (99) must be at most `rows` (16)"),
        ("--image_size 672", "`image_size` must be like 672x672, got '672'"),
        ("--rows 0", "`rows` must be at least 1, got 0"),
    ],
)
def test_wrong_settings_are_one_line(flags, error, capsys):
    assert main(["bench", "bdhs", *flags.split()]) == 2
    assert error in capsys.readouterr().err
