"""Plots of the results page: differences, hallucination against recall and against length, and POPE by category."""

from collections.abc import Mapping, Sequence

from ..data.pair_statistics import count_words
from ..report.page import Page
from .result_cards import category_of
from .results import Comparison, Figure, MetricRow, ModelResults


def add_plots(page: Page, comparison: Comparison, models: Sequence[ModelResults]) -> None:
    """
    Adds the plots for which there is something to show.

    Args:
        page ([`Page`]): the page.
        comparison ([`Comparison`]): figures of the models.
        models (`Sequence[ModelResults]`): the models.

    Raises:
        ImportError: matplotlib is missing.
    """
    _add_differences(page, comparison)
    for benchmark, (hallucination, recall, category) in HALLUCINATION.items():
        rows = {row.key: row for row in comparison.rows if row.benchmark == benchmark}
        if hallucination not in rows:
            continue
        if recall in rows:
            _add_recall(page, rows[hallucination], rows[recall])
        _add_lengths(page, rows[hallucination], models, category)
    _add_categories(page, models)


def _add_differences(page: Page, comparison: Comparison) -> None:
    """One plot for each scale: points of percent do not go with points of a judge."""
    for scale in dict.fromkeys(row.metric.scale for row in comparison.rows):
        rows = []
        for row in comparison.rows:
            for name, figure in row.figures.items():
                if row.metric.scale == scale and figure.difference is not None and figure.difference_interval:
                    low, high = figure.difference_interval
                    label = f"{row.title} {row.metric.label}" + f", {name}" * (len(comparison.models) > 2)
                    rows.append((label, scale * figure.difference, (scale * low, scale * high)))
        if rows:
            second = f": {comparison.models[1]}" if len(comparison.models) == 2 else ""
            unit = "points of percent" if scale == 100 else "points"
            page.intervals(f"Difference to {comparison.models[0]}{second}", rows, unit, reference=0.0)


def _add_recall(page: Page, hallucination: MetricRow, recall: MetricRow) -> None:
    points = {
        name: (_span(recall, recall.figures[name]), _span(hallucination, figure))
        for name, figure in hallucination.figures.items()
        if name in recall.figures
    }
    title = f"{hallucination.title}: hallucination against recall (right and low is better)"
    page.scatter(title, points, _axis(recall), _axis(hallucination))


def _add_lengths(page: Page, hallucination: MetricRow, models: Sequence[ModelResults], category: str | None) -> None:
    points = {}
    for model in models:
        figure = hallucination.figures.get(model.name)
        rows = [r for r in model.rows.get(hallucination.benchmark, ()) if category in (None, category_of(r))]
        if figure is not None and rows:
            length = sum(count_words(row["answer"]) for row in rows) / len(rows)
            points[model.name] = ((length, (length, length)), _span(hallucination, figure))
    if points:
        title = f"{hallucination.title}: hallucination against length (long answers name more)"
        page.scatter(title, points, "words of an answer", _axis(hallucination))


def _add_categories(page: Page, models: Sequence[ModelResults]) -> None:
    """F1 of each category of POPE."""
    results: Mapping[str, Mapping] = {model.name: model.scores["pope"] for model in models if "pope" in model.scores}
    categories = dict.fromkeys(category for result in results.values() for category in result)
    rows = [
        (
            f"{category}, {name}",
            100 * found["f1"],
            (100 * found["intervals"]["f1"][0], 100 * found["intervals"]["f1"][1]),
        )
        for category in categories
        for name, result in results.items()
        if (found := result.get(category)) and "f1" in found.get("intervals", {})
    ]
    if rows:
        page.intervals("POPE by category", rows, "F1, %")


def _span(row: MetricRow, figure: Figure) -> tuple[float, tuple[float, float]]:
    scale, (low, high) = row.metric.scale, figure.interval
    return scale * figure.value, (scale * low, scale * high)


def _axis(row: MetricRow) -> str:
    return row.metric.label + ", %" * (row.metric.scale == 100)


# For benchmarks of free texts the share that is hallucinated, what it is to be read beside if there is such, and the
# category of the questions that ask for texts if there are others
HALLUCINATION: Mapping[str, tuple[str, str | None, str | None]] = {
    "chair": ("chair_i", "recall", None),
    "amber": ("amber_chair", "amber_cover", "generative"),
    "object_halbench": ("object_halbench_chair_i", "object_halbench_recall", None),
    "mmhal": ("mmhal_hallucination_rate", None, None),
    "mmhal_v": ("mmhal_v_hallucination_rate", None, None),
}
