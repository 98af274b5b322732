"""A part of each benchmark that is small enough to be asked during training, found and checked before it."""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import ProcessorMixin

from ..data.image_forms import ImageError
from ..data.images import resolve_image
from .answers import check_questions
from .benchmark import Benchmark
from .objects import load_annotations


def small_split(rows: Sequence[Mapping[str, Any]], max_questions: int | None, seed: int) -> list[dict[str, Any]]:
    """
    Draws images, each with all of its questions.

    Args:
        rows (`Sequence[Mapping[str, Any]]`):
            Questions of a benchmark.
        max_questions (`int`, *optional*):
            Most questions; one image is there however many it has. `None` keeps all.
        seed (`int`):
            Seed of the draw.

    Returns:
        `list[dict[str, Any]]`: in the order of `rows`.
    """
    if max_questions is None or len(rows) <= max_questions:
        return [dict(row) for row in rows]
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["image"]] = counts.get(row["image"], 0) + 1
    drawn: set[str] = set()
    total = 0
    for image in random.Random(f"{seed} small split").sample(list(counts), len(counts)):
        total += counts[image]
        if drawn and total > max_questions:
            break
        drawn.add(image)
    return [dict(row) for row in rows if row["image"] in drawn]


def training_questions(
    benchmarks: Mapping[str, Benchmark],
    *,
    image_folder: str | Path,
    annotations: str | Path | None = None,
    max_questions: int | None = 300,
    seed: int = 0,
    processor: ProcessorMixin | None = None,
) -> dict[str, list[dict[str, Any]]]:
    """
    Reads the questions that [`BenchmarkCallback`] asks, and finds out whether it can.

    Args:
        benchmarks, image_folder, annotations, max_questions, seed:
            As in [`BenchmarkCallback`].
        processor ([`~transformers.ProcessorMixin`], *optional*):
            Processor of the model; with it questions that spell an image are refused.

    Returns:
        `dict[str, list[dict[str, Any]]]`: rows of each benchmark, with the path of the image as `file`.

    Raises:
        ValueError: there is no benchmark, one needs a judge or settings, or images are missing; they are counted.
        OSError: a file of a benchmark cannot be read.
    """
    if not benchmarks:
        raise ValueError("`benchmarks` names none. Name some, or leave it out.")
    if max_questions is not None and max_questions < 1:
        raise ValueError(f"`max_questions` must be at least 1, got {max_questions}.")
    truths = None if annotations is None else load_annotations(annotations)
    found = {}
    for name, benchmark in benchmarks.items():
        if benchmark.judge_options is not None:
            raise ValueError(f"`benchmarks`: {benchmark.title} needs a judge, and during training there is none.")
        rows = small_split(benchmark.questions(truths, seed=seed), max_questions, seed)
        found[name] = _with_files(rows, image_folder, benchmark.title)
        if processor is not None:
            check_questions(found[name], processor, name)
    return found


def _with_files(rows: list[dict[str, Any]], image_folder: str | Path, title: str) -> list[dict[str, Any]]:
    files: dict[str, str] = {}
    missing = []
    for image in dict.fromkeys(row["image"] for row in rows):
        try:
            files[image] = resolve_image(image, image_folder)["path"]
        except ImageError as error:
            missing.append(error)
    if missing:
        raise ValueError(
            f"{title}: {len(missing)} of {len(missing) + len(files)} images are missing in `image_folder` "
            f"({image_folder}), the first: {missing[0]}"
        )
    return [{**row, "file": files[row["image"]]} for row in rows]
