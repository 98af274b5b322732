"""Benchmarks inside training, as a callback."""

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from transformers import Trainer, TrainerCallback

from ..data.images import open_image
from ..generation import Completer, Request, SamplingSettings
from ..trainer.on_policy.unwrapped_policy import generation_model
from .answers import as_prompt
from .benchmark import Benchmark
from .intervals import ratio
from .small_split import training_questions


class BenchmarkCallback(TrainerCallback):
    """
    Measures the policy by benchmarks during training, on a small split, and logs `eval_pope_f1` and so on, which
    trackers show as `eval/pope_f1`. At an evaluation the figures join its metrics, for `metric_for_best_model`.

    The policy answers as in `trl-mm eval`: greedy, with its adapter. All processes take their share, also under
    ZeRO-3. Training is not disturbed: random numbers, modes of modules and what is logged besides stay as they are.

    ```python
    pope = PopeBenchmark(pope_files=["coco_pope_adversarial.json"])
    trainer.add_callback(BenchmarkCallback(trainer, {"pope": pope}, image_folder="coco/val2014", steps=100))
    ```

    Args:
        trainer ([`MMDPOTrainer`] or [`MMOnlineDPOTrainer`]):
            The trainer, which the callback is then added to.
        benchmarks (`Mapping[str, Benchmark]`):
            What to measure, by the names of `trl_mm.eval.benchmarks.BENCHMARKS`. One that needs a judge is refused.
        image_folder (`str` or `Path`):
            Folder of the images.
        annotations (`str` or `Path`, *optional*):
            COCO-style JSON, for CHAIR and for questions that POPE makes.
        steps (`int`, *optional*):
            Measure every so many optimizer steps. By default at every evaluation of the trainer.
        max_questions (`int`, *optional*, defaults to `300`):
            Most questions of each benchmark: images are drawn, each with all its questions. `None` asks all.
        max_new_tokens (`int`, *optional*, defaults to `256`):
            Longest answer, in tokens, where the benchmark sets no shorter one.
        batch_size (`int`, *optional*, defaults to `16`):
            Questions that go through the model together.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the split, and of questions that are made.

    Raises:
        ValueError: a setting is out of range, a benchmark lacks a file or needs a judge, images are missing (they are
            counted), or weights are spread by FSDP, whose processes cannot generate each on its own.
    """

    def __init__(
        self,
        trainer: Trainer,
        benchmarks: Mapping[str, Benchmark],
        *,
        image_folder: str | Path,
        annotations: str | Path | None = None,
        steps: int | None = None,
        max_questions: int | None = 300,
        max_new_tokens: int = 256,
        batch_size: int = 16,
        seed: int = 0,
    ):
        given = {"steps": steps, "max_new_tokens": max_new_tokens, "batch_size": batch_size}
        for name, value in given.items():
            if value is not None and value < 1:
                raise ValueError(f"`{name}` must be at least 1, got {value}.")
        check_backend(trainer)
        self.trainer, self.benchmarks, self.steps, self.seed = trainer, benchmarks, steps, seed
        self.questions = training_questions(
            benchmarks,
            image_folder=image_folder,
            annotations=annotations,
            max_questions=max_questions,
            seed=seed,
            processor=trainer.processing_class,
        )
        self.max_new_tokens, self.batch_size = max_new_tokens, batch_size

    def on_step_end(self, args, state, control, **kwargs):
        if self.steps is not None and state.global_step % self.steps == 0:
            self._log(self.measure(), control)

    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        if self.steps is None:
            figures = self.measure()
            self._log(figures, control)
            if metrics is not None:
                metrics.update(figures)

    def measure(self) -> dict[str, float]:
        """
        Ask the policy and score its answers. Every process has to come.

        Returns:
            `dict[str, float]`: `eval_NAME` for each metric of the benchmarks, the same in all processes: shares in
            [0, 1], and what is no share on its own scale.
        """
        figures = {}
        with same_random_numbers(self.trainer.accelerator.device):
            for name, benchmark in self.benchmarks.items():
                rows = self.questions[name]
                result = benchmark.score(rows, self._answers(benchmark, rows), seed=self.seed)
                for metric, (above, below) in benchmark.metric_parts(result).items():
                    scale = benchmark.metrics[metric].scale
                    figures[f"eval_{metric}"] = ratio([above], [below]) * (1.0 if scale == 100.0 else scale)
        return figures

    def _answers(self, benchmark: Benchmark, rows: Sequence[Mapping[str, Any]]) -> list[str]:
        trainer = self.trainer
        longest = benchmark.longest_answer(self.max_new_tokens)
        completer = Completer(
            trainer.processing_class, SamplingSettings(longest, temperature=0.0, batch_size=self.batch_size)
        )
        rank, world_size = trainer.args.process_index, trainer.args.world_size
        # One without a share answers the first: under ZeRO-3 all have to enter the vision part
        share = list(range(rank, len(rows), world_size)) or [0]
        answers: list[tuple[int, str]] = []
        with generation_model(trainer) as model, trainer.accelerator.autocast():
            for start in range(0, len(share), self.batch_size):
                batch = share[start : start + self.batch_size]
                prompts = completer.prompts([_as_row(rows[index]) for index in batch])
                texts = completer.complete(model, [Request(prompt) for prompt in prompts])
                answers += [(index, text.strip()) for index, text in zip(batch, texts, strict=True)]
        gathered = dict(gather_object(answers))
        return [gathered[index] for index in range(len(rows))]

    def _log(self, figures, control):
        # Not the trainers' own `log`, which empties the metrics of training that wait for the next one; and the log
        # of this step is still to come
        should_log = control.should_log
        Trainer.log(self.trainer, dict(figures))
        control.should_log = should_log


@contextmanager
def same_random_numbers(device: torch.device) -> Iterator[None]:
    """Context after which the generators of python, numpy and torch, also on `device`, are as before."""
    python, arrays = random.getstate(), np.random.get_state()
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(arrays)


def check_backend(trainer: Trainer) -> None:
    """Refuse to ask where a process cannot generate without the others."""
    if trainer.is_fsdp_enabled:
        raise ValueError(
            "Benchmarks cannot be asked during training under FSDP, which keeps a part of each weight on every "
            "process. Use DDP or DeepSpeed (`--accelerate_config zero3`), or `trl-mm eval` on the checkpoints."
        )


def _as_row(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"images": [open_image(row["file"])], "prompt": as_prompt(row["question"]), "row_id": row["image"]}
