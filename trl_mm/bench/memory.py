"""Peak memory of a trainer's steps, measured in a process of its own."""

import multiprocessing
import os
import re
import resource
import tempfile
from pathlib import Path

import torch

from .steps import WARMUP, Steps


def peak_memory(make_trainer, name, settings):
    """
    Peak memory of two steps of one side, what Python and its libraries take not counted.

    Args:
        make_trainer (`Callable`): function of a module, called with `name`, `settings` and a folder.
        name (`str`): side.
        settings ([`StepBenchmark`]): what to measure.

    Returns:
        `int`: bytes.
    """
    # glibc gives blocks of this size back at once; with its own, moving threshold the peak would be that of its heap
    os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(2**20))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak_memory, (make_trainer, name, settings))


def _peak_memory(make_trainer, name, settings):
    before = high_water_mark()
    with tempfile.TemporaryDirectory() as folder:
        step = Steps(make_trainer(name, settings, folder))
        for _ in range(min(2, settings.rounds + WARMUP)):
            step()
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else high_water_mark() - before


def high_water_mark():
    """Largest resident memory of this process so far, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # what `getrusage` says on Linux, a process inherits from the one that started it
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
