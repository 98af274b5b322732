"""A [`Comparison`] as text: aligned for the terminal, and as a table for GitHub."""

import re
import textwrap
from collections.abc import Iterable, Sequence
from itertools import zip_longest

from ..data.shown import shown
from .benchmark import Metric
from .paper_rows import SOURCE
from .results import Comparison, Figure, MetricRow, PaperFigure
from .sign_test import SignTest


MAX_NAME = 28  # characters of a model's name above its column
Cell = list[str]  # lines


def terminal_table(comparison: Comparison, width: int = 100) -> str:
    """
    The table for a terminal. Columns that are too many for its width follow below in further tables.

    Args:
        comparison ([`Comparison`]): what is shown.
        width (`int`, *optional*, defaults to `100`): columns of the terminal.

    Returns:
        `str`: lines that are no longer than `width`, but for one column that is wider by itself.
    """
    headers, rows = _headers(comparison), _rows(comparison)
    label_width = max(len(text) for title, label, _ in rows for text in (title, f"  {label}"))
    widths = [
        max(len(text) for text in [header, *(line for *_, cells in rows for line in cells[index])])
        for index, header in enumerate(headers)
    ]
    blocks: list[list[int]] = [[]]
    for index in range(len(headers)):
        taken = label_width + sum(2 + widths[other] for other in [*blocks[-1], index])
        if blocks[-1] and taken > width:
            blocks.append([])
        blocks[-1].append(index)
    tables = ["\n".join(_block(headers, rows, [label_width, *widths], block)) for block in blocks]
    wrapped = ["\n".join(textwrap.wrap(note, width)) for note in notes(comparison)]
    return "\n\n".join([*tables, "\n".join(wrapped)])


def markdown_table(comparison: Comparison) -> str:
    """The table as GitHub renders it (`str`)."""
    headers = ["benchmark", "metric", *_headers(comparison)]
    lines = [_markdown_row(map(_escaped, headers)), _markdown_row(["---"] * len(headers))]
    above = ""
    for title, label, cells in _rows(comparison):
        texts = ["<br>".join(map(_escaped, cell)) for cell in cells]
        lines.append(_markdown_row([_escaped(title) * (title != above), _escaped(label), *texts]))
        above = title
    return "\n".join([*lines, "", *(f"{_escaped(note)}\n" for note in notes(comparison))])


def notes(comparison: Comparison) -> list[str]:
    """What a reader has to know of the figures, one sentence or two each."""
    first, count = shown(comparison.models[0]), comparison.num_differences
    found = ["[95 % intervals] are over images: these weights on other images. Another training may differ more."]
    if count:
        found.append(
            f"Differences are to {first}, on the same images. Better and worse are those "
            f"whose interval leaves out zero: of {count} differences that are none, {count / 20:.1f} would by chance."
        )
    if comparison.signs:
        found.append(
            "Right : wrong are questions that turned right and that turned wrong, with the exact sign test, which "
            "takes questions for independent."
        )
    if comparison.has_paper:
        found.append(
            f'The paper\'s row is "{comparison.paper_row}" ({SOURCE}), one run, with the standard error that the size '
            "of the benchmark allows, where it is known; a judge's scores move with the judge."
        )
    return [*found, *comparison.notes]


def figure_text(metric: Metric, figure: Figure) -> str:
    """A figure with its interval (`str`): `"88.7 [87.5, 89.9]"`."""
    low, high = (_number(metric, end) for end in figure.interval)
    return f"{_number(metric, figure.value)} [{low}, {high}]"


def difference_text(row: MetricRow, model: str) -> str:
    """A difference with its interval and what it means (`str`): `"+2.3 [+1.2, +3.4] better"`; empty without one."""
    figure = row.figures.get(model)
    if figure is None or figure.difference is None or figure.difference_interval is None:
        return ""
    value, low, high = (_number(row.metric, x, "+") for x in (figure.difference, *figure.difference_interval))
    return f"{value} [{low}, {high}] {row.verdict(model)}".rstrip()


def paper_text(paper: PaperFigure | None) -> str:
    """A figure of the paper (`str`): `"88.75 ± 0.40"`."""
    if paper is None:
        return ""
    return f"{paper.value:.2f}" + ("" if paper.standard_error is None else f" ± {paper.standard_error:.1f}")


def sign_text(test: SignTest) -> str:
    """A sign test (`str`): `"61 : 34, p = 0.0073"`."""
    p = "p < 0.0001" if test.p_value < 0.0001 else f"p = {test.p_value:.2g}"
    return f"{test.gained} : {test.lost}, {p}"


def _number(metric: Metric, value: float, sign: str = "") -> str:
    text = f"{value * metric.scale:{sign}.{metric.digits}f}"
    return text.replace("-", "", 1) if float(text) == 0 and text.startswith("-") else text


def _headers(comparison: Comparison) -> list[str]:
    names = [shown(name) for name in comparison.models]
    half = MAX_NAME // 2  # both ends: names of one run often begin alike
    names = [name if len(name) <= MAX_NAME else f"{name[: half - 1]}…{name[-half:]}" for name in names]
    return [*names, *(["paper"] if comparison.has_paper else [])]


def _rows(comparison: Comparison) -> list[tuple[str, str, list[Cell]]]:
    """Title of the benchmark, label and cells of each row."""
    rows: list[tuple[str, str, list[Cell]]] = []
    for benchmark in dict.fromkeys(row.benchmark for row in comparison.rows):
        mine = [row for row in comparison.rows if row.benchmark == benchmark]
        for row in mine:
            cells = [_cell(row, model) for model in comparison.models]
            rows.append((row.title, row.metric.label, cells + [[paper_text(row.paper)]] * comparison.has_paper))
        tests = comparison.signs.get(benchmark)
        if tests:
            cells = [[sign_text(tests[model]) if model in tests else ""] for model in comparison.models]
            rows.append((mine[0].title, "right : wrong", cells + [[""]] * comparison.has_paper))
    return rows


def _block(
    headers: Sequence[str], rows: Sequence[tuple[str, str, list[Cell]]], widths: Sequence[int], block: Sequence[int]
) -> list[str]:
    """Lines of the columns `block`. `widths` begin with that of the labels; rows without anything are left out."""
    chosen = [widths[0], *(widths[1 + index] for index in block)]
    lines, above = [_line(["", *(headers[index] for index in block)], chosen)], ""
    for title, label, cells in rows:
        table = list(zip_longest(*(cells[index] for index in block), fillvalue=""))
        for number, texts in enumerate(line for line in table if any(line)):
            if number == 0 and title != above:
                lines.append(title)
                above = title
            lines.append(_line([f"  {label}" * (number == 0), *texts], chosen))
    return lines


def _cell(row: MetricRow, model: str) -> Cell:
    figure = row.figures.get(model)
    lines = [figure_text(row.metric, figure) if figure else "-", difference_text(row, model)]
    return lines if lines[1] else lines[:1]


def _line(texts: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(text.ljust(width) for text, width in zip(texts, widths, strict=True)).rstrip()


def _markdown_row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    return re.sub(r"([\\`*_<>|\[\]])", r"\\\1", text)
