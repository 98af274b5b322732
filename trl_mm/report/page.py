"""
The one HTML page of the project: text, tables, plots and a gallery in one file that opens from disk, without network.
Model answers and data sets are hostile input, so the template escapes every value, and the Content-Security-Policy of
the page allows nothing but images from inside the file, the page's own style sheet and, if a part can be filtered, the
script that does it, which no data goes into.
"""

import base64
import hashlib
import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..data.atomic_file import replacing
from .gallery import GalleryItem, card
from .plots import Span, interval_plot, line_plot, scatter_plot


NUMBER = re.compile(r"[\s(\[]*[-+−]?[.\d][\s\d.,%±+\-−–e×()\[\]]*")

GENERATOR = "trl_mm"  # named in each page, so that pages of others are not taken for ours


class Page:
    """
    Collects the parts of a page, in order, and writes them as one file. All text is plain text.

    Args:
        title (`str`):
            Title of the page.
        subtitle (`str`, *optional*, defaults to `""`):
            Line below it.

    Examples:
    ```python
    >>> page = Page("Shapes")
    >>> page.table(["model", "CHAIR_i"], [["base", 0.21], ["aligned", 0.12]], highlight=[1])
    >>> page.write("runs/shapes/report.html")
    PosixPath('runs/shapes/report.html')
    ```
    """

    def __init__(self, title: str, subtitle: str = ""):
        self.title, self.subtitle = title, subtitle
        self._parts: list[dict] = []

    def text(self, text: str) -> None:
        """Adds text; an empty line starts a new paragraph."""
        self._parts.append({"kind": "text", "paragraphs": re.split(r"\n\s*\n", text.strip())})

    def heading(self, text: str) -> None:
        """Adds a heading."""
        self._parts.append({"kind": "heading", "text": text})

    def table(
        self,
        headers: Sequence[str],
        rows: Iterable[Sequence[object]],
        caption: str = "",
        highlight: Collection[int] = (),
    ) -> None:
        """
        Adds a table. Columns that hold nothing but numbers ("12.5 %" and "[-0.1, 0.2]" are some) are aligned to the
        right; floats are shown with four significant digits, `None` as a dash.

        Args:
            headers (`Sequence[str]`):
                Names of the columns.
            rows (`Iterable[Sequence[object]]`):
                Cells, as many per row as there are headers.
            caption (`str`, *optional*, defaults to `""`):
                What the table shows.
            highlight (`Collection[int]`, *optional*, defaults to `()`):
                Numbers of the rows to stand out, from 0.

        Raises:
            ValueError: a row has another number of cells than there are headers.
        """
        cells = [[_cell(value) for value in row] for row in rows]
        for index, row in enumerate(cells):
            if len(row) != len(headers):
                raise ValueError(f"`rows[{index}]` has {len(row)} cells, but there are {len(headers)} `headers`.")
        numeric = [
            any(cell != "–" for cell in column) and all(cell == "–" or NUMBER.fullmatch(cell) for cell in column)
            for column in ([row[index] for row in cells] for index in range(len(headers)))
        ]
        self._parts.append(
            {"kind": "table", "headers": headers, "rows": cells, "caption": caption}
            | {"highlight": highlight, "numeric": numeric}
        )

    def plot(
        self, title: str, series: Mapping[str, Sequence[tuple[float, float]]], x_label: str = "", y_label: str = ""
    ) -> None:
        """
        Adds a line plot as inline SVG. Points that are not finite leave a gap.

        Args:
            title (`str`):
                What the plot shows.
            series (`Mapping[str, Sequence[tuple[float, float]]]`):
                From the name of a line to its points `(x, y)`.
            x_label (`str`, *optional*, defaults to `""`):
                What is on the x axis, with its unit.
            y_label (`str`, *optional*, defaults to `""`):
                What is on the y axis, with its unit.

        Raises:
            ImportError: matplotlib is missing.
        """
        svg = line_plot(title, list(series.values()), x_label, y_label)
        self._parts.append({"kind": "plot", "title": title, "names": list(series), "svg": svg})

    def scatter(
        self, title: str, points: Mapping[str, tuple[Span, Span]], x_label: str = "", y_label: str = ""
    ) -> None:
        """
        Adds points with their intervals as inline SVG.

        Args:
            title (`str`):
                What the plot shows.
            points (`Mapping[str, tuple[Span, Span]]`):
                From the name of a point to its x and y, each `(value, (low, high))`.
            x_label (`str`, *optional*, defaults to `""`):
                What is on the x axis, with its unit.
            y_label (`str`, *optional*, defaults to `""`):
                What is on the y axis, with its unit.

        Raises:
            ImportError: matplotlib is missing.
        """
        svg = scatter_plot(title, list(points.values()), x_label, y_label)
        self._parts.append({"kind": "plot", "title": title, "names": list(points), "svg": svg})

    def intervals(
        self,
        title: str,
        rows: Sequence[tuple[str, float, tuple[float, float]]],
        label: str = "",
        reference: float | None = None,
    ) -> None:
        """
        Adds values with their intervals, one below the other, as inline SVG.

        Args:
            title (`str`):
                What the plot shows.
            rows (`Sequence[tuple[str, float, tuple[float, float]]]`):
                Name, value, and both ends of its interval.
            label (`str`, *optional*, defaults to `""`):
                What is on the x axis, with its unit.
            reference (`float`, *optional*):
                Where a line crosses all rows, such as 0 for differences.

        Raises:
            ImportError: matplotlib is missing.
        """
        svg = interval_plot(title, rows, label, reference)
        self._parts.append({"kind": "plot", "title": title, "names": [], "svg": svg})

    def gallery(
        self,
        items: Iterable[GalleryItem],
        caption: str = "",
        good: str = "in the image",
        bad: str = "not in the image",
    ) -> None:
        """
        Adds a grid of cards with image and answers. Each image is shrunk to a thumbnail and let go, so `items` may be
        a generator over more images than fit in memory.

        Args:
            items (`Iterable[GalleryItem]`):
                The cards.
            caption (`str`, *optional*, defaults to `""`):
                What the gallery shows.
            good (`str`, *optional*, defaults to `"in the image"`):
                What a word marked "good" is.
            bad (`str`, *optional*, defaults to `"not in the image"`):
                What a word marked "bad" is.

        Raises:
            ValueError: marks overlap, leave their text, or have another class than "bad" or "good".
        """
        cards = [card(item) for item in items]
        self._parts.append(
            {"kind": "gallery", "cards": cards, "caption": caption, "meanings": {"good": good, "bad": bad}}
        )

    def browser(
        self,
        items: Iterable[GalleryItem],
        filters: Mapping[str, Literal["choice", "range"]],
        caption: str = "",
        good: str = "only in chosen",
        bad: str = "only in rejected",
        pixels: int = 192,
        max_bytes: int | None = None,
    ) -> None:
        """
        Adds a gallery for many items, one below the other, that can be filtered and searched for text.

        Args:
            items (`Iterable[GalleryItem]`):
                The items; may be a generator, as in [`Page.gallery`].
            filters (`Mapping[str, "choice" | "range"]`):
                From the name of one of the items' `values` to how it is filtered: by one of the values there are, or,
                numbers only, by the least and the greatest to show. Items without the value are hidden then.
            caption, good, bad:
                As in [`Page.gallery`].
            pixels (`int`, *optional*, defaults to `192`):
                Longest side of a thumbnail.
            max_bytes (`int`, *optional*):
                Most bytes of the thumbnails of one item, before base64.

        Raises:
            ValueError: as in [`Page.gallery`], and if a filter is of another kind.
        """
        for name, kind in filters.items():
            if kind not in ("choice", "range"):
                raise ValueError(f"`filters[{name!r}]` must be 'choice' or 'range', got {kind!r}.")
        cards = [card(item, filters, pixels, max_bytes) for item in items]
        columns = [[card["filtered"][index] for card in cards] for index in range(len(filters))]
        known = [sorted({value for value in column if value is not None}) for column in columns]
        self._parts.append(
            {"kind": "browser", "cards": cards, "caption": caption, "meanings": {"good": good, "bad": bad}}
            | {"filters": [(name, filters[name], found) for name, found in zip(filters, known, strict=True)]}
        )

    def bars(self, title: str, counts: Iterable[tuple[str, int]], label: str = "", unit: str = "rows") -> None:
        """
        Adds a bar chart of counts, each with its share of their sum.

        Args:
            title (`str`):
                What the chart shows.
            counts (`Iterable[tuple[str, int]]`):
                Names and counts of the bars.
            label (`str`, *optional*, defaults to `""`):
                What the names are.
            unit (`str`, *optional*, defaults to `"rows"`):
                What is counted.
        """
        counts = list(counts)
        longest, total = max([1, *(count for _, count in counts)]), max(1, sum(count for _, count in counts))
        bars = [(name, count, f"{count / total:.1%}", round(100 * count / longest, 1)) for name, count in counts]
        self._parts.append({"kind": "bars", "title": title, "bars": bars, "label": label, "unit": unit})

    def write(self, path: str | Path) -> Path:
        """
        Writes the page. A reader of `path` sees the old page or the new one, never half of it.

        Args:
            path (`str` or `Path`):
                The HTML file. Missing folders are made.

        Returns:
            `Path`: the path of the file.
        """
        path = Path(path)
        environment = Environment(
            loader=FileSystemLoader(Path(__file__).parent),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters["sha256"] = lambda text: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        html = environment.get_template("page.html.j2").render(
            generator=GENERATOR, title=self.title, subtitle=self.subtitle, parts=self._parts
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, os.getpid()) as file:
            file.write(html.encode("utf-8", errors="replace"))  # JSON can hold halves of surrogate pairs
        return path


def is_page(path: str | Path) -> bool:
    """Whether a file begins as a page that [`Page.write`] wrote."""
    with open(path, "rb") as file:
        return f'<meta name="generator" content="{GENERATOR}">'.encode() in file.read(1000)


def _cell(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
