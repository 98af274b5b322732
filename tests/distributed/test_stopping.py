"""What stops a training stops it in all processes, also where one of them alone has seen it."""

import json
from pathlib import Path

import pytest
from support.launching import accelerate, run_together
from support.tiny import save_tiny


pytestmark = pytest.mark.distributed

SECONDS = 120


def test_both_processes_stop_together(tmp_path):
    save_tiny(tmp_path / "model", scale=4)
    script = [str(Path(__file__).with_name("stopping.py")), str(tmp_path), str(SECONDS)]
    ((status, output),) = run_together([*accelerate("ddp"), *script], seconds=SECONDS + 60)
    assert status == 0, output
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    for found in (first, second):
        assert found["nan"].startswith("NotFiniteError: The norm of the gradients of step 2 is nan")
        assert found["judge"].startswith("ValueError: The judge has given no verdict that can be read in 2 steps in a")
        assert "up to step 4" in found["judge"]
