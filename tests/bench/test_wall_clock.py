"""What `trainer.train()` takes, and where the seconds of a step go, by a clock that the tests move."""

from types import SimpleNamespace

import pytest
import torch

from trl_mm.bench import dpo, steps, wall_clock
from trl_mm.bench.dpo_config import DPOBenchmark
from trl_mm.bench.steps import PARTS, Steps


def benchmark(**changes):
    tiny = {"size": "tiny", "image_size": ["56x56"], "response_tokens": [4, 9], "rounds": 2, "memory": False}
    return DPOBenchmark(**{**tiny, **changes})


class Time:
    """A clock that stands still unless something takes its time."""

    now = 0.0

    def takes(self, seconds, method):
        def taking(*args, **kwargs):
            self.now += seconds
            return method(*args, **kwargs)

        return taking


@pytest.mark.parametrize("name", [dpo.OURS, dpo.TRL])
def test_the_parts_of_a_step_are_told_apart(tmp_path, monkeypatch, name):
    time = Time()
    monkeypatch.setattr(steps, "now", lambda: time.now)
    trainer = dpo.make_trainer(name, benchmark(), tmp_path)
    trainer.data_collator = time.takes(0.25, trainer.data_collator)
    trainer.compute_loss = time.takes(2, trainer.compute_loss)
    trainer._prepare_inputs = time.takes(4, trainer._prepare_inputs)
    trainer.accelerator.backward = time.takes(8, trainer.accelerator.backward)
    trainer.accelerator.clip_grad_norm_ = time.takes(16, trainer.accelerator.clip_grad_norm_)
    step = Steps(trainer)
    for _ in range(3):
        step()
    # accelerate looks one batch ahead, so the first step collates two of three batches and the last none
    assert step.parts["loading"] == [4.5, 4.25, 4.0]
    assert [step.parts[part] for part in PARTS[1:]] == [[2.0] * 3, [8.0] * 3, [16.0] * 3]
    assert step.medians() == {"loading": 4.125, "forward": 2.0, "backward": 8.0, "optimizer": 16.0}
    step.repeat()
    assert len(step.parts["forward"]) == 3 and all(p.grad is None for p in step.model.parameters())


@pytest.mark.parametrize("name", [dpo.OURS, dpo.TRL])
def test_training_is_timed_from_the_end_of_the_warmup_with_loading(monkeypatch, name):
    time = Time()
    monkeypatch.setattr(wall_clock, "now", lambda: time.now)
    monkeypatch.setattr(wall_clock.time, "perf_counter", lambda: time.now)

    def make_trainer(*args):
        trainer = dpo.make_trainer(*args)
        trainer.data_collator = time.takes(0.25, trainer.data_collator)
        trainer.compute_loss = time.takes(2, trainer.compute_loss)
        return trainer

    found = wall_clock.train_seconds(make_trainer, name, benchmark())
    # Of the three batches the warm-up collates two and the second step the last
    assert found == {"seconds_per_step": (2 * 2 + 0.25) / 2, "loader_wait": 0.25 / 2}


def test_a_gpu_is_busy_as_long_as_its_kernels(monkeypatch):
    assert wall_clock.device_seconds(lambda: None) is None
    events = [SimpleNamespace(self_device_time_total=3e5), SimpleNamespace(self_device_time_total=2e5)]

    class Profile(SimpleNamespace):
        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.profiler, "profile", lambda **_: Profile(key_averages=lambda: events))
    taken = []
    assert wall_clock.device_seconds(lambda: taken.append(1)) == pytest.approx(0.5) and taken == [1]
