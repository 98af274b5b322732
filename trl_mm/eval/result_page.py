"""The results of an evaluation as one HTML page: tables, plots, and answers side by side."""

from collections.abc import Iterator, Mapping, Sequence

from ..report.gallery import GalleryItem
from ..report.page import Page
from .benchmark import Benchmark
from .result_cards import BENCHMARK, CATEGORY, cards, change_filter, changes, chosen, row_scores
from .result_plots import add_plots
from .result_table import difference_text, figure_text, notes, paper_text, sign_text
from .results import Comparison, MetricRow, ModelResults


MAX_CARDS = 1000  # on the page, of all benchmarks together
NO_BREAK = "\N{NO-BREAK SPACE}"
PIXELS, MAX_BYTES = 176, 6000  # of the image of a card


def result_page(
    comparison: Comparison,
    models: Sequence[ModelResults],
    benchmarks: Mapping[str, Benchmark],
    *,
    max_cards: int = MAX_CARDS,
) -> Page:
    """
    Makes the page.

    Args:
        comparison ([`Comparison`]): what [`compare_results`] gives for these models.
        models (`Sequence[ModelResults]`): the models, with the rows that were asked.
        benchmarks (`Mapping[str, Benchmark]`): the benchmarks by name.
        max_cards (`int`, *optional*, defaults to `1000`): most questions whose answers are shown. A page of so many is
            about 10 MB with two models, and grows with the answers, of which 1,500 characters are shown.

    Returns:
        [`Page`]: without plots where matplotlib is missing, which it then says.
    """
    first, *others = comparison.models
    compared = f"Compared with {first}: {', '.join(others)}" if others else first
    page = Page("Evaluation", f"{compared}. Seed {comparison.seed}")
    _add_tables(page, comparison)
    page.heading("Plots")
    try:
        add_plots(page, comparison, models)
    except ImportError as error:
        page.text(str(error))
    _add_answers(page, comparison, models, benchmarks, max_cards)
    return page


def _add_tables(page: Page, comparison: Comparison) -> None:
    names, (first, *others) = comparison.models, comparison.models
    paper = [f"paper: {comparison.paper_row}"] if comparison.has_paper else []
    rows = [
        [
            row.title,
            _label(row),
            *(_cell(figure_text(row.metric, f)) if (f := row.figures.get(n)) else None for n in names),
        ]
        + [_cell(paper_text(row.paper)) for _ in paper]
        for row in comparison.rows
    ]
    page.table(["benchmark", "metric", *names, *paper], rows, caption="Figures, with 95 % intervals")
    if others:
        rows = [[row.title, _label(row), *(_cell(difference_text(row, n)) for n in others)] for row in comparison.rows]
        page.table(["benchmark", "metric", *others], rows, f"Difference to {first}, with paired 95 % intervals")
    if comparison.signs:
        titles = {row.benchmark: row.title for row in comparison.rows}
        rows = [
            [titles[name], *(_cell(sign_text(tests[n])) if n in tests else None for n in others)]
            for name, tests in comparison.signs.items()
        ]
        page.table(["benchmark", *others], rows, caption=f"Questions that turned right : wrong since {first}")
    page.text("\n\n".join(notes(comparison)))


def _label(row: MetricRow) -> str:
    return row.metric.label + {"higher": NO_BREAK + "↑", "lower": NO_BREAK + "↓", "neither": ""}[row.metric.better]


def _cell(text: str) -> str | None:
    """Text of a cell that is not broken into lines; a dash for none."""
    return text.replace(" ", NO_BREAK) or None


def _add_answers(
    page: Page,
    comparison: Comparison,
    models: Sequence[ModelResults],
    benchmarks: Mapping[str, Benchmark],
    max_cards: int,
) -> None:
    scores = {name: row_scores(models, name, benchmark) for name, benchmark in benchmarks.items()}
    scores = {name: columns for name, columns in scores.items() if columns}
    shown: dict[str, list[int]] = {}
    counts: list[tuple[str, int, int, int, int]] = []
    for name, columns in scores.items():
        changed = changes(columns, comparison.models[0])
        num_rows = min(map(len, columns.values()))
        rows = chosen(changed, num_rows, max(1, max_cards // len(scores)), comparison.seed)
        moved = {index for column in changed.values() for index, change in enumerate(column) if change}
        counts.append((benchmarks[name].title, num_rows, len(rows), len(moved), len(moved.intersection(rows))))
        shown[name] = rows
    if not shown:
        return
    several = len(models) > 1
    page.heading("Answers side by side")
    headers = ["benchmark", "questions", "of them below"] + ["changed in score", "of them below"] * several
    page.table(headers, [row if several else row[:3] for row in counts])
    if any(asked > below for _, asked, below, *_ in counts):
        half = "half are those that changed most in score, and half drawn" if several else "some are drawn"
        shares = ": shares below are not those of the benchmark" if several else ""
        page.text(f"Of many questions, {half} at random (seed {comparison.seed}){shares}.")
    filters = [change_filter(name, comparison.models[0]) for name in comparison.models[1:]]
    items = _items(models, benchmarks, scores, shown)
    page.browser(
        items,
        {BENCHMARK: "choice", CATEGORY: "choice", **dict.fromkeys(filters, "choice")},
        good="named, and in the image",
        bad="named, and not in the image",
        pixels=PIXELS,
        max_bytes=MAX_BYTES,
    )


def _items(
    models: Sequence[ModelResults],
    benchmarks: Mapping[str, Benchmark],
    scores: Mapping[str, Mapping[str, list[float | None]]],
    shown: Mapping[str, list[int]],
) -> Iterator[GalleryItem]:
    for name, rows in shown.items():
        yield from cards(models, name, benchmarks[name], scores[name], rows)
