"""One script for a GPU: every stage is a call that the command takes, and one that fails costs only itself."""

import json
import sys

import pytest

from trl_mm.bench import gpu
from trl_mm.scripts import bench


@pytest.mark.parametrize("name", gpu.STAGES)
def test_every_stage_is_a_call_of_the_command(name):
    for command in (gpu.STAGES[name].command, gpu.STAGES[name].tiny):
        benchmark, *flags = command.split()
        parser = getattr(bench, benchmark.replace("-", "_")).make_parser()
        _, settings = parser.parse_args_and_config(flags, fail_with_unknown_args=True)
        assert settings.size == ("tiny" if command == gpu.STAGES[name].tiny else "7b" if "7b" in command else "small")


def test_all_stages_together_take_less_than_8_minutes():
    assert sum(stage.limit for stage in gpu.STAGES.values()) <= gpu.TOTAL < 480


def test_a_stage_writes_its_figures_and_its_lines_of_the_table(tmp_path, capsys):
    assert gpu.main(["--tiny", "--stages", "dpo", "--output_dir", str(tmp_path / "gpu")]) == 0
    printed = capsys.readouterr().out
    assert "train(): times as fast as TRL's" in printed and "trl_mm: of these, waiting for batches" in printed
    written = json.loads((tmp_path / "gpu" / "gpu.json").read_text())
    assert written["dpo"]["figures"]["sides"].keys() == {"trl_mm", "trl"} and written["dpo"]["seconds"] > 0


HANGS = "import threading; threading.Event().wait()"
FAILS = "import sys; sys.exit('out of memory')"
WRITES = "import json, sys; json.dump({'device': 'toy', 'sides': {}}, open(sys.argv[-1], 'w'))"


def test_what_hangs_or_fails_costs_only_itself(tmp_path, monkeypatch, capsys):
    stages = {
        name: gpu.Stage(name, name, limit, lambda figures: [("figure", 0.5, "6.1f")])
        for name, limit in {"hangs": 0.2, "fails": 60, "writes": 60}.items()
    }
    monkeypatch.setattr(gpu, "STAGES", stages)
    code = f"import sys; exec({ {'hangs': HANGS, 'fails': FAILS, 'writes': WRITES} }[sys.argv[1]])"
    monkeypatch.setattr(gpu, "COMMAND", (sys.executable, "-c", code))
    assert gpu.main(["--output_dir", str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    table = lines[lines.index("device: toy") :]
    assert "stopped after 0 s" in table[1]
    assert "exit 1" in table[2] and table[2].endswith("out of memory")
    assert "figure" in table[3] and table[3].endswith("0.5")


def test_a_stage_without_time_is_not_started(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "TOTAL", 0)
    assert gpu.main(["--stages", "bdhs", "--output_dir", str(tmp_path)]) == 1
    assert json.loads((tmp_path / "gpu.json").read_text())["bdhs"]["error"] == "no time was left of 0 s"


def side(**more):
    clock = {"seconds_per_step": 1.25, "loader_wait": 0.01}
    return {"wall_clock": clock, "share_of_floor": 0.4, "device_seconds": 1.06, **more}


def test_goals_stand_beside_the_figures():
    dpo = {"sides": {"trl_mm": side(), "trl": side()}, "floor": {"seconds": 0.53}, "wall_ratio": 2.1}
    rounding = {"sides": {"trl_mm": {"from_float32": 1e-3}}}
    online = {"sides": {"trl_mm": {"sampling_seconds": 0.64}}, "settings": {"new_tokens": 64}, "ratio": 3.2}
    bdhs = {"sides": {"trl_mm": {"answers_per_second": 61.0}}, "equal_answers": 1.0}
    figures = {"dpo": dpo, "rounding": rounding, "online": online, "bdhs": bdhs}
    text = gpu.table({name: {"seconds": 1.0, "figures": {"device": "x", **f}} for name, f in figures.items()})
    for wanted in (
        "(goal 60%)",
        "50%",
        "(goal 2)",
        "2.10",
        "(goal 15)",
        "10.0",
        "(goal 3)",
        "3.20",
        "61.0",
        "1.0e-03",
    ):
        assert wanted in text
