"""Launched processes end with their launcher, even if it is killed without being able to tell them."""

import os
import subprocess
import sys

import pytest
from support.launching import REPOSITORY


# Would go on for a minute, and say so
SCRIPT = """
import os
import sys
import time
from dataclasses import dataclass

from trl import TrlParser
from trl_mm.scripts.errors import run_with_one_line_errors


@dataclass
class Arguments:
    accelerate_config: str | None = None


def make_parser():
    return TrlParser(Arguments)


def main():
    os.write(1, b"up ")
    time.sleep(60)
    os.write(1, b"went on ")


if __name__ == "__main__":
    sys.exit(run_with_one_line_errors(main))
"""
LAUNCH = "from trl_mm.cli.launch import run; run('wait', 'waiting_script', {flags})"


@pytest.mark.distributed
@pytest.mark.parametrize(("config", "processes"), [("single_gpu", 1), ("ddp", 2)])
def test_launched_processes_end_with_a_killed_launcher(tmp_path, config, processes):
    (tmp_path / "waiting_script.py").write_text(SCRIPT)
    flags = ["--accelerate_config", config, "--num_processes", str(processes), "--main_process_port", "0"]
    with subprocess.Popen(
        [sys.executable, "-c", LAUNCH.format(flags=flags)],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(tmp_path)])},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as launcher:
        said = b""
        while said.count(b"up") < processes and (read := os.read(launcher.stdout.fileno(), 100)):
            said += read
        launcher.kill()
        said += launcher.stdout.read()  # until the last process that can write to it has ended
    assert said.split() == [b"up"] * processes
