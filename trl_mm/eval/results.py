"""
Models side by side on the same questions: every metric with its interval, what each model changes against the first
one, and the paper's figures of the same training. Nothing here reads or writes a file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from .benchmark import Benchmark, Metric
from .intervals import bootstrap_ratio, paired_difference, ratio
from .paper_rows import PAPER_COLUMNS, SOURCE, find_paper_row
from .sign_test import SignTest, sign_test


Parts = tuple[list, list]


@dataclass(frozen=True)
class ModelResults:
    """
    What was measured of a model.

    Args:
        name (`str`): its name in tables.
        scores (`Mapping[str, Any]`): results by benchmark, as in `scores.json`.
        rows (`Mapping[str, Sequence[Mapping[str, Any]]]`, *optional*): by benchmark, rows as they were asked with
            their `answer`; the same questions in the same order for all models.
    """

    name: str
    scores: Mapping[str, Any]
    rows: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Figure:
    """
    A metric of a model, as a ratio, not yet multiplied by [`Metric`]'s `scale`.

    Args:
        value (`float`): the metric.
        interval (`tuple[float, float]`): its 95 % interval over images.
        difference (`float`, *optional*): the metric minus that of the first model.
        difference_interval (`tuple[float, float]`, *optional*): the paired 95 % interval of `difference`.
    """

    value: float
    interval: tuple[float, float]
    difference: float | None = None
    difference_interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class PaperFigure:
    """A value of the paper on its own scale, and the standard error that its sample allows, where it is known."""

    value: float
    standard_error: float | None


@dataclass(frozen=True)
class MetricRow:
    """
    A row of the table.

    Args:
        benchmark (`str`): key of the benchmark.
        title (`str`): its name in tables.
        key (`str`): key of the metric.
        metric ([`Metric`]): how it is shown.
        figures (`Mapping[str, Figure]`): by model, those that have it.
        paper ([`PaperFigure`], *optional*): what the paper reports.
    """

    benchmark: str
    title: str
    key: str
    metric: Metric
    figures: Mapping[str, Figure]
    paper: PaperFigure | None = None

    def verdict(self, model: str) -> Literal["better", "worse", ""]:
        """Whether the interval of a model's difference leaves out zero, and on which side."""
        figure = self.figures.get(model)
        if figure is None or figure.difference_interval is None or self.metric.better == "neither":
            return ""
        low, high = figure.difference_interval
        if low <= 0 <= high:
            return ""
        return "better" if (low > 0) == (self.metric.better == "higher") else "worse"


@dataclass(frozen=True)
class Comparison:
    """
    The whole table.

    Args:
        models (`list[str]`): names; all are compared with the first one.
        rows (`list[MetricRow]`): by benchmark, then by metric.
        signs (`Mapping[str, Mapping[str, SignTest]]`): for benchmarks whose answers are right or wrong, by model.
        paper_row (`str`, *optional*): name of the paper's row.
        seed (`int`): seed of the bootstrap.
        notes (`list[str]`): what could not be compared, and why.
    """

    models: list[str]
    rows: list[MetricRow]
    signs: Mapping[str, Mapping[str, SignTest]]
    paper_row: str | None
    seed: int
    notes: list[str]

    @property
    def has_paper(self) -> bool:
        """Whether the paper reports any of what was measured."""
        return any(row.paper is not None for row in self.rows)

    @property
    def num_differences(self) -> int:
        """Differences whose interval is marked as better or worse where it leaves out zero."""
        figures = [figure for row in self.rows if row.metric.better != "neither" for figure in row.figures.values()]
        return sum(figure.difference_interval is not None for figure in figures)


def compare_results(
    models: Sequence[ModelResults],
    benchmarks: Mapping[str, Benchmark],
    *,
    paper_row: str | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> Comparison:
    """
    Compares models with the first one.

    Args:
        models (`Sequence[ModelResults]`): the models, in the order of the columns.
        benchmarks (`Mapping[str, Benchmark]`): the benchmarks by name, with the settings they were run with.
        paper_row (`str`, *optional*): row of the paper to stand beside them, as [`find_paper_row`] finds it.
        limit (`int`, *optional*): images of each benchmark that were asked about, where it was not all of them.
        seed (`int`, *optional*, defaults to `0`): seed of the bootstrap.

    Returns:
        [`Comparison`]

    Raises:
        ValueError: there is no model, two have one name, or the paper has no such row.
    """
    names = [model.name for model in models]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"`models` must be at least one, each with a name of its own, got {names}.")
    known, paper = (None, {}) if paper_row is None else find_paper_row(paper_row)
    rows: list[MetricRow] = []
    signs: dict[str, dict[str, SignTest]] = {}
    notes: list[str] = []
    for name, benchmark in benchmarks.items():
        results = {model.name: model.scores[name] for model in models if name in model.scores}
        parts = {model: benchmark.metric_parts(result) for model, result in results.items()}
        paper_figures = _paper_figures(name, benchmark, paper)
        for key, metric in benchmark.metrics.items():
            counts = {model: found[key] for model, found in parts.items() if key in found}
            if counts:
                figures = _figures(counts, names[0], seed)
                rows.append(MetricRow(name, benchmark.title, key, metric, figures, paper_figures.get(key)))
        signs |= {name: tests} if (tests := _signs(benchmark, results, names[0])) else {}
        notes += _notes(benchmark, rows, names)
        if name in {column.benchmark for column in PAPER_COLUMNS.values()} and paper and not paper_figures:
            notes.append(f"{benchmark.title}: the paper asked other questions, so its figure is not shown.")
    if paper and not any(row.paper for row in rows):
        notes.append(f'Nothing of the paper\'s row "{known}" was measured.')
    elif paper and limit is not None:
        notes.append(
            f"The paper's figures and their ± are of whole benchmarks; here the first images ({limit:,}) of each were "
            "asked about, other questions than the paper's."
        )
    return Comparison(names, rows, signs, known, seed, notes)


def as_json(comparison: Comparison) -> dict[str, Any]:
    """The table as `results.json` holds it: shares in [0, 1], and the paper's figures on its scale."""
    benchmarks: dict[str, Any] = {}
    for row in comparison.rows:
        entry = benchmarks.setdefault(row.benchmark, {"title": row.title, "metrics": {}})
        shown = {"label": row.metric.label, "better": row.metric.better, "scale": row.metric.scale}
        entry["metrics"][row.key] = {
            **shown,
            "models": {
                model: {**vars(figure), "verdict": row.verdict(model)} for model, figure in row.figures.items()
            },
            **({"paper": vars(row.paper)} if row.paper else {}),
        }
    for name, tests in comparison.signs.items():
        benchmarks[name]["sign_test"] = {
            model: {**vars(test), "p_value": test.p_value} for model, test in tests.items()
        }
    return {
        "models": comparison.models,
        "compared_with": comparison.models[0],
        "seed": comparison.seed,
        **({"paper_row": comparison.paper_row, "paper": SOURCE} if comparison.paper_row else {}),
        "notes": comparison.notes,
        "benchmarks": benchmarks,
    }


def _figures(counts: Mapping[str, Parts], first: str, seed: int) -> dict[str, Figure]:
    figures = {}
    for model, part in counts.items():
        value, interval = ratio(*_one_seed(part)), bootstrap_ratio(*_one_seed(part), seed=seed)
        if model == first or first not in counts or np.shape(part[0]) != np.shape(counts[first][0]):
            figures[model] = Figure(value, interval)
            continue
        base = _one_seed(counts[first])
        ends = paired_difference(_one_seed(part), base, seed=seed)
        figures[model] = Figure(value, interval, value - ratio(*base), ends)
    return figures


def _one_seed(part: Parts) -> Parts:
    """The first axis of counts with parts is that of training seeds."""
    return [part[0]], [part[1]]


def _signs(benchmark: Benchmark, results: Mapping[str, Any], first: str) -> dict[str, SignTest]:
    correct = {model: benchmark.correct(result) for model, result in results.items()}
    base = correct.pop(first, None)
    if base is None:
        return {}
    return {model: sign_test(c, base) for model, c in correct.items() if c is not None and len(c) == len(base)}


def _notes(benchmark: Benchmark, rows: Sequence[MetricRow], names: Sequence[str]) -> list[str]:
    mine = [row for row in rows if row.title == benchmark.title]
    alone = [
        name
        for name in names[1:]
        if any(name in row.figures and row.figures[name].difference_interval is None for row in mine)
    ]
    return [
        f"{benchmark.title}: {name} and {names[0]} were not scored on the same images, so there is no difference."
        for name in alone
    ]


def _paper_figures(name: str, benchmark: Benchmark, paper: Mapping[str, float]) -> dict[str, PaperFigure]:
    """The paper's values by our metric, where the same was asked."""
    figures = {}
    for label, value in paper.items():
        column = PAPER_COLUMNS[label]
        if column.benchmark == name and (column.needs is None or getattr(benchmark, column.needs)):
            key = column.metric or next(iter(benchmark.metrics))
            figures[key] = PaperFigure(value, column.standard_error(value))
    return figures
