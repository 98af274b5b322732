"""
What an evaluation leaves in its folder for people and programs: `results.json`, `results.md` and `report.html`, made
of the answers and scores of each model, which lie in a folder of its own or, with one model, beside them.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet

from ..data.atomic_file import replacing
from .benchmark import Benchmark
from .result_page import result_page
from .result_table import markdown_table, terminal_table
from .results import ModelResults, as_json, compare_results


def write_results(
    folder: str | Path,
    models: Mapping[str, str | Path],
    benchmarks: Mapping[str, Benchmark],
    questions: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    paper_row: str | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> str:
    """
    Compares models that have been asked and scored, and writes `results.json`, `results.md` and `report.html`.

    Args:
        folder (`str` or `Path`): where they go.
        models (`Mapping[str, str | Path]`): from the name of each model to the folder with its `scores.json` and, by
            benchmark, its answers; all are compared with the first one. A folder may be `folder` itself.
        benchmarks (`Mapping[str, Benchmark]`): the benchmarks by name, with the settings they were run with.
        questions (`Mapping[str, Sequence[Mapping[str, Any]]]`): what [`Benchmark.questions`] gave, by benchmark.
        paper_row (`str`, *optional*): row of the paper to stand beside them, as [`find_paper_row`] finds it.
        limit (`int`, *optional*): images of each benchmark that were asked about, where it was not all of them.
        seed (`int`, *optional*, defaults to `0`): seed of the bootstrap and of which answers are shown.

    Returns:
        `str`: the table for the terminal, and the paths of the files.

    Raises:
        FileNotFoundError: a folder has no scores, or no answers.
        ValueError: a folder has another number of answers than there are questions, or the paper has no such row.
    """
    evaluated = [read_model(name, path, questions) for name, path in models.items()]
    comparison = compare_results(evaluated, benchmarks, paper_row=paper_row, limit=limit, seed=seed)
    folder = Path(folder)
    # The figures first: a page that fails for a picture leaves them
    paths = [
        _write(folder / "results.json", json.dumps(as_json(comparison), indent=2) + "\n"),
        _write(folder / "results.md", markdown_table(comparison)),
        result_page(comparison, evaluated, benchmarks).write(folder / "report.html"),
    ]
    return f"{terminal_table(comparison)}\n\nResults in {', '.join(map(str, paths))}"


def read_model(name: str, folder: str | Path, questions: Mapping[str, Sequence[Mapping[str, Any]]]) -> ModelResults:
    """
    Reads the scores and answers of a model, and what a judge said of them (`judged.jsonl` beside the answers).

    Args:
        name (`str`): its name in tables.
        folder (`str` or `Path`): folder with its `scores.json` and, by benchmark, its answers.
        questions (`Mapping[str, Sequence[Mapping[str, Any]]]`): what [`Benchmark.questions`] gave, by benchmark. What
            is known of them joins the rows, whose images are where they were found.

    Returns:
        [`ModelResults`]

    Raises:
        FileNotFoundError: there are no scores, or no answers to a benchmark.
        ValueError: there are more or fewer answers than questions, or lines of a judge than answers.
    """
    folder = Path(folder)
    path = folder / "scores.json"
    if not path.is_file():
        raise FileNotFoundError(f"There is no {path}: run `trl-mm eval` for {name} first.")
    scores = json.loads(path.read_text(encoding="utf-8"))
    rows = {benchmark: _rows(folder / benchmark, asked) for benchmark, asked in questions.items()}
    return ModelResults(name, scores, rows)


def _rows(folder: Path, questions: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    shards = sorted(folder.glob("shard-*.parquet"))
    if not shards:
        raise FileNotFoundError(f"There are no answers in {folder}: run `trl-mm eval` first.")
    # Without `datasets`, which copies each file into its cache to read it
    tables = [pyarrow.parquet.read_table(shard, columns=["image", "answer"]) for shard in shards]
    stored = [row for table in tables for row in table.to_pylist()]
    if len(stored) != len(questions):
        raise ValueError(
            f"{folder} has {len(stored)} answers to {len(questions)} questions: run `trl-mm eval` again, with the "
            "settings that it was begun with."
        )
    said = _judged(folder / "judged.jsonl", len(stored))
    return [{**question, **judged, **row} for question, judged, row in zip(questions, said, stored, strict=True)]


def _judged(path: Path, num_rows: int) -> list[dict[str, Any]]:
    """What a judge said of each answer, where one has looked at them."""
    if not path.is_file():
        return [{}] * num_rows
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    if len(lines) != num_rows:
        raise ValueError(
            f"{path} has {len(lines)} lines of the judge for {num_rows} answers: run `trl-mm eval` again."
        )
    return lines


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, os.getpid()) as file:
        file.write(text.encode("utf-8", errors="replace"))
    return path
