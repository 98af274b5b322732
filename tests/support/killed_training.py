"""Runs a command in a process that kills itself at a given moment: what the tests of resuming start.

What is unusual in it: processes are forked from a server that has imported torch and TRL once, which takes seconds.
`accelerate launch … tests/support/killed_training.py seconds moment command flags` does it in several processes (""
for no moment), and ends itself after `seconds` with a traceback of where it hangs.
"""

import faulthandler
import multiprocessing
import os
import signal
import sys
from pathlib import Path


PROCESSES = multiprocessing.get_context("forkserver")
# The server skips what is not installed
PROCESSES.set_forkserver_preload(
    ["trl_mm.trainer.dpo_trainer", "trl_mm.trainer.online_dpo_trainer", "trl_mm.bdhs.callback", "deepspeed"]
    + [f"transformers.models.{name}.modeling_{name}" for name in ("llava_next", "clip", "llama")]
)
SECONDS = 120  # for a run of seconds, on a busy machine


def start(argv, kill=None):
    """
    Run `trl-mm` with the arguments in a process of its own.

    Args:
        argv (`list[str]`): command and flags.
        kill (`str`, *optional*): when it kills itself, one of `MOMENTS`.

    Returns:
        `int`: its exit status, -9 if it was killed.
    """
    process = PROCESSES.Process(target=run, args=(argv, kill))
    process.start()
    process.join(SECONDS)
    if process.is_alive():
        process.kill()
        process.join()
        raise TimeoutError(f"{argv} took more than {SECONDS} seconds.")
    return process.exitcode


def run(argv, kill):
    from trl_mm.cli.main import main

    if kill is not None:
        MOMENTS[kill]()
    sys.exit(main(argv))


def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


def in_step(number):
    """During the computation of a step."""
    from transformers import Trainer

    step = Trainer.training_step

    def training_step(self, *args, **kwargs):
        if self.state.global_step + 1 == number:
            die()
        return step(self, *args, **kwargs)

    Trainer.training_step = training_step


def in_optimizer(number):
    """When half of the optimizer of a checkpoint is written."""
    import io

    import torch

    save = torch.save

    def torch_save(content, path, *args, **kwargs):
        name = str(path)
        if f"checkpoint-{number}/" in name and name.endswith(("optimizer.pt", "optim_states.pt", "optimizer.bin")):
            buffer = io.BytesIO()
            save(content, buffer)
            Path(path).write_bytes(buffer.getvalue()[: buffer.tell() // 2])
            die()
        return save(content, path, *args, **kwargs)

    torch.save = torch_save


def in_rotation(number):
    """When one file of an old checkpoint is deleted."""
    import shutil

    rmtree = shutil.rmtree

    def delete(path, *args, **kwargs):
        if Path(path).name == f"checkpoint-{number}":
            (Path(path) / "scheduler.pt").unlink()
            die()
        return rmtree(path, *args, **kwargs)

    shutil.rmtree = delete


MOMENTS = {
    "in step 4": lambda: in_step(4),
    "in the optimizer of checkpoint 4": lambda: in_optimizer(4),
    "while checkpoint 2 is deleted": lambda: in_rotation(2),
}


if __name__ == "__main__":
    faulthandler.dump_traceback_later(float(sys.argv[1]), exit=True)
    if "ACCELERATE_USE_DEEPSPEED" in os.environ:
        import deepspeed

        # Else it compiles an operation for inference first, and needs a compiler
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    from support.fsdp_on_cpus import allow_fsdp_on_cpus

    allow_fsdp_on_cpus()
    run(sys.argv[3:], sys.argv[2] or None)
