"""Starts scripts in several processes, as a user would: `accelerate launch` with a config of `recipes/accelerate`."""

import os
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path


REPOSITORY = Path(__file__).parents[2]


def accelerate(config, *flags):
    """
    Words of a command that starts two processes on CPUs; the script and its arguments follow.

    Args:
        config (`str`): name of an accelerate config.
        flags (`str`): further flags of `accelerate launch`, in place of any free port.
    """
    path = f"recipes/accelerate/{config}.yaml"
    return [
        *[sys.executable, "-m", "accelerate.commands.launch", "--config_file", path, "--mixed_precision", "no"],
        *["--num_processes", "2", *(flags or ("--main_process_port", "0"))],
    ]


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def run_together(*commands, seconds):
    """
    Run commands side by side, which share no terminal and see no GPU.

    Args:
        commands (`list[str]`): words of each.
        seconds (`float`): how long to wait for each; then all are ended.

    Returns:
        `list[tuple[int, str]]`: exit status and end of the output of each.
    """
    environment = {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": "",
        "DS_ACCELERATOR": "cpu",
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")]),
    }
    with ExitStack() as opened:
        processes = []
        for command in commands:
            output = opened.enter_context(tempfile.TemporaryFile("w+", errors="replace"))
            process = subprocess.Popen(
                command, cwd=REPOSITORY, env=environment, stdout=output, stderr=subprocess.STDOUT
            )
            opened.callback(process.terminate)  # what it has started are sessions of their own, which only it ends
            processes.append((process, output))
        statuses = [process.wait(timeout=seconds) for process, _ in processes]
        for _, output in processes:
            output.seek(0)
        return [(status, output.read()[-20_000:]) for status, (_, output) in zip(statuses, processes, strict=True)]
