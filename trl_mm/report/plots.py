"""Lines, points and intervals as an SVG, mostly part of the page around it: no script, style or color of its own."""

import contextlib
import io
import os
import re
import warnings
from collections.abc import Callable, Sequence
from typing import TypeAlias
from xml.etree import ElementTree

from markupsafe import Markup


MAX_MARKERS = 50  # a longer line is drawn without a dot for each of its points
MAX_NAME = 48  # characters of a name beside an axis, which else leaves no room for the plot

Span: TypeAlias = tuple[float, tuple[float, float]]  # a value, and both ends of its interval


def line_plot(title: str, lines: Sequence[Sequence[tuple[float, float]]], x_label: str, y_label: str) -> Markup:
    """
    Draws lines. Line i is a group of the class `line-{i % 6}`, whose color and dashes the page's style sheet sets; all
    else has the color of the text around the plot.

    Args:
        title (`str`):
            What a screen reader says of the plot.
        lines (`Sequence[Sequence[tuple[float, float]]]`):
            Points `(x, y)` of each line. Points that are not finite leave a gap.
        x_label (`str`):
            What is on the x axis.
        y_label (`str`):
            What is on the y axis.

    Returns:
        `Markup`: an `<svg>` element, with all text escaped.

    Raises:
        ImportError: matplotlib is missing.
    """
    with axes_of_page((6.4, 3.2)) as axes:
        axes.grid(axis="y", alpha=0.25)
        axes.set_xlabel(printable(x_label))
        axes.set_ylabel(printable(y_label))
        for index, points in enumerate(lines):
            marker = "o" if len(points) <= MAX_MARKERS else None
            x, y = zip(*points, strict=True) if points else ((), ())
            axes.plot(x, y, marker=marker, markersize=3, gid=f"line-{index % 6}")
        return part_of_page(axes, title)


def scatter_plot(title: str, points: Sequence[tuple[Span, Span]], x_label: str, y_label: str) -> Markup:
    """
    Draws points with their intervals on both axes. Point i is a group of the class `line-{i % 6}`, as in
    [`line_plot`], with a marker of its own.

    Args:
        title (`str`):
            What a screen reader says of the plot.
        points (`Sequence[tuple[Span, Span]]`):
            For each point x and y, both as value and ends of the interval, which may be the value itself.
        x_label (`str`):
            What is on the x axis, with its unit.
        y_label (`str`):
            What is on the y axis, with its unit.

    Returns:
        `Markup`: an `<svg>` element, with all text escaped.

    Raises:
        ImportError: matplotlib is missing.
    """
    with axes_of_page((6.4, 3.6)) as axes:
        axes.grid(alpha=0.25)
        axes.set_xlabel(printable(x_label))
        axes.set_ylabel(printable(y_label))
        for index, ((x, x_ends), (y, y_ends)) in enumerate(points):
            group = f"line-{index % 6}"
            axes.plot(x_ends, [y, y], linewidth=1, gid=group)
            axes.plot([x, x], y_ends, linewidth=1, gid=group)
            axes.plot([x], [y], marker=MARKERS[index % 6], markersize=8, markeredgewidth=0, gid=group)
        _begin_at_zero(axes.set_xlim, [end for (x, ends), _ in points for end in (x, *ends)])
        _begin_at_zero(axes.set_ylim, [end for _, (y, ends) in points for end in (y, *ends)])
        return part_of_page(axes, title)


def interval_plot(
    title: str, rows: Sequence[tuple[str, float, tuple[float, float]]], label: str, reference: float | None = None
) -> Markup:
    """
    Draws a value with its interval for each row, the first one at the top.

    Args:
        title (`str`):
            What a screen reader says of the plot.
        rows (`Sequence[tuple[str, float, tuple[float, float]]]`):
            Name, value, and both ends of its interval.
        label (`str`):
            What is on the x axis, with its unit.
        reference (`float`, *optional*):
            Where a line crosses all rows, such as 0 for differences.

    Returns:
        `Markup`: an `<svg>` element, with all text escaped.

    Raises:
        ImportError: matplotlib is missing.
    """
    with axes_of_page((6.4, 0.8 + 0.27 * len(rows))) as axes:
        axes.grid(axis="x", alpha=0.25)
        axes.set_xlabel(printable(label))
        axes.set_yticks(range(len(rows)), [_clipped(printable(name)) for name, _, _ in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        if reference is not None:
            axes.axvline(reference, linewidth=1, gid="reference")
        for place, (_, value, (low, high)) in enumerate(rows):
            axes.plot([low, high], [place, place], gid="line-0")
            axes.plot([value], [place], marker="o", markersize=5, gid="line-0")
        if reference is None:
            _begin_at_zero(axes.set_xlim, [end for _, value, ends in rows for end in (value, *ends)])
        return part_of_page(axes, title)


def write_line_plot(path: str | os.PathLike, lines: dict[str, Sequence[tuple[float, float]]], y_label: str) -> None:
    """
    Draws curves of a training run into an SVG file of its own, on white.

    Args:
        path (`str` or `Path`):
            The file.
        lines (`dict[str, Sequence[tuple[float, float]]]`):
            Name of each line to its points `(step, y)`.
        y_label (`str`):
            What is on the y axis.

    Raises:
        ImportError: matplotlib is missing.
    """
    with axes_of_page((4.2, 2.8)) as axes:
        axes.grid(axis="y", alpha=0.25)
        axes.set_xlabel("step")
        axes.set_ylabel(printable(y_label))
        for name, points in lines.items():
            axes.plot(*zip(*points, strict=True), marker="o" if len(points) <= MAX_MARKERS else None, markersize=3)
            axes.lines[-1].set_label(printable(name))
        if len(lines) > 1:
            axes.legend(frameon=False)
        axes.figure.savefig(path, format="svg", facecolor="white", metadata={"Date": None})


@contextlib.contextmanager
def axes_of_page(size: tuple[float, float]):
    """Axes for a plot on the page; `size` in inches of width and height."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("Plots need matplotlib: install it with `pip install trl-mm[eval]`.") from error

    settings = {"svg.fonttype": "none", "svg.hashsalt": "trl_mm", "text.parse_math": False, "font.size": 9}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # the browser's fonts draw the text
        axes = Figure(figsize=size, layout="constrained").add_subplot(frame_on=False)
        axes.tick_params(length=0)
        yield axes


def part_of_page(axes, title: str) -> Markup:
    """Makes matplotlib's SVG part of the page: no style of its own, so that the page's style sheet sets the colors."""
    file = io.StringIO()
    axes.figure.savefig(file, format="svg", transparent=True)
    root = ElementTree.fromstring(file.getvalue())
    for element in list(root.iter()):
        for child in list(element):
            if child.tag.endswith(("}metadata", "}style")):
                element.remove(child)
        element.tag = element.tag.split("}")[-1]
        attributes = {name.split("}")[-1]: value for name, value in element.attrib.items()}
        for declaration in filter(str.strip, attributes.pop("style", "").split(";")):
            name, value = map(str.strip, declaration.split(":", 1))
            colored = name in ("fill", "stroke") and value != "none"
            attributes[name] = "currentColor" if colored else value
        if element.tag == "g" and "id" in attributes:
            attributes["class"] = attributes.pop("id")
        element.attrib = attributes
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": printable(title)}
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _begin_at_zero(set_limits: Callable[[float, float], object], values: Sequence[float]) -> None:
    """Where all values are zero, matplotlib would centre the axis on it and show shares below it."""
    if values and not any(values):
        set_limits(-0.05, 1.0)


def _clipped(name: str) -> str:
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 2].rstrip()} …"


def printable(text: str) -> str:
    # XML has no way to write control characters and halves of surrogate pairs, not even escaped.
    return re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "?", text)


MARKERS = "osD^vP"  # circle, square, diamond, triangles, plus: told apart without colours
