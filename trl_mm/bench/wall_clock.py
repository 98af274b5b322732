"""What a user waits for: `trainer.train()`, with loading and all else between steps, and how busy the GPU is."""

import tempfile
import time

import torch
from transformers import TrainerCallback

from .rounds import now
from .steps import WARMUP, release


class Clock(TrainerCallback):
    """When the warm-up ended, and when the last step did, in seconds. In between nothing waits for the device."""

    begin = end = None

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == WARMUP:
            self.begin = now()
        if state.global_step == state.max_steps:
            self.end = now()


def train_seconds(make_trainer, name, settings):
    """
    Train one side, alone in memory.

    Args:
        make_trainer (`Callable`): function that is called with `name`, `settings` and a folder.
        name (`str`): side.
        settings ([`DPOBenchmark`]): what to measure.

    Returns:
        `dict[str, float]`: `seconds_per_step`, and `loader_wait`, seconds of these that it waited for batches; the
            warm-up is not counted.
    """
    with tempfile.TemporaryDirectory() as folder:
        trainer, clock = make_trainer(name, settings, folder), Clock()
        trainer.args.max_steps = WARMUP + settings.rounds
        trainer.add_callback(clock)
        waits = watch_waiting(trainer)
        trainer.train()
        del trainer
    release()
    return {
        "seconds_per_step": (clock.end - clock.begin) / settings.rounds,
        "loader_wait": sum(waits[WARMUP : WARMUP + settings.rounds]) / settings.rounds,
    }


def watch_waiting(trainer):
    """Keep how many seconds a trainer waits for the batches of each step (`list[float]`, filled as it trains)."""
    waits, get = [], trainer.get_batch_samples

    def watched(*args):
        begin = time.perf_counter()
        batches = get(*args)
        waits.append(time.perf_counter() - begin)
        return batches

    trainer.get_batch_samples = watched
    return waits


def device_seconds(step):
    """
    Seconds (`float`) that the kernels of one step keep the GPU busy; `None` without a GPU.

    Args:
        step (`Callable`): takes a step.
    """
    if not torch.cuda.is_available():
        return None
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        step()
        torch.cuda.synchronize()
    return sum(event.self_device_time_total for event in profile.key_averages()) / 1e6
