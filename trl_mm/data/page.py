"""
The one HTML page of the project: text, tables, plots and a gallery in one file that opens from disk, without network.
Model answers and data sets are hostile input, so the template escapes every value, the page has no script, and its
Content-Security-Policy allows nothing but images from inside the file and the page's own style sheet.
"""

import base64
import hashlib
import io
import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image, ImageOps

from .line_plot import line_plot


Mark = tuple[int, int, Literal["bad", "good"]]

THUMBNAIL_PIXELS = 256
DRAWING_COLORS = 4096  # more than a drawing has, even with soft edges
NUMBER = re.compile(r"[\s(\[]*[-+−]?[.\d][\s\d.,%±+\-−–e×()\[\]]*")


@dataclass
class GalleryItem:
    """
    One card of the gallery.

    Args:
        image (`PIL.Image.Image`, *optional*):
            What was asked about. `None` for a text-only row.
        title (`str`, *optional*, defaults to `""`):
            Heading of the card.
        answers (`list[tuple[str, str, list[Mark]]]`, *optional*, defaults to `[]`):
            Label, text, and marks of the text. A mark is `(start, end, "bad" | "good")`, in characters.
    """

    image: Image.Image | None = None
    title: str = ""
    answers: list[tuple[str, str, list[Mark]]] = field(default_factory=list)


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
            `ValueError`: if a row has another number of cells than there are headers.
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
            `ImportError`: if matplotlib is missing.
        """
        svg = line_plot(title, list(series.values()), x_label, y_label)
        self._parts.append({"kind": "plot", "title": title, "names": list(series), "svg": svg})

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
            `ValueError`: if marks overlap, leave their text, or have another class than "bad" or "good".
        """
        cards = [
            {
                "image": _thumbnail(item.image) if item.image is not None else None,
                "title": item.title,
                "answers": [(label, _segments(text, marks)) for label, text, marks in item.answers],
            }
            for item in items
        ]
        self._parts.append(
            {"kind": "gallery", "cards": cards, "caption": caption, "meanings": {"good": good, "bad": bad}}
        )

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
            title=self.title, subtitle=self.subtitle, parts=self._parts
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            unfinished.write_bytes(html.encode("utf-8", errors="replace"))  # JSON can hold halves of surrogate pairs
            os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)
        return path


def _cell(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _segments(text: str, marks: Iterable[Mark]) -> list[tuple[str, str]]:
    """Cuts `text` at its marks, into pairs of text and class, `""` for what is not marked."""
    segments, position = [], 0
    for start, end, kind in sorted(marks):
        if kind not in ("bad", "good"):
            raise ValueError(f"A mark must be 'bad' or 'good', got {kind!r}.")
        if not position <= start <= end <= len(text):
            raise ValueError(
                f"The mark ({start}, {end}) overlaps another or leaves its text of {len(text)} characters."
            )
        segments += [(text[position:start], ""), (text[start:end], kind)]
        position = end
    return [segment for segment in [*segments, (text[position:], "")] if segment[0]]


def _thumbnail(image: Image.Image) -> dict:
    """Size in pixels and data URI of a small copy: PNG for drawings, which stay sharp, JPEG for photographs."""
    small = ImageOps.exif_transpose(image)  # a copy
    transparent = small.has_transparency_data
    small = small.convert("RGBA" if transparent else "RGB")
    small.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
    kind = "png" if transparent or small.getcolors(DRAWING_COLORS) else "jpeg"
    file = io.BytesIO()
    small.save(file, format=kind)
    uri = f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
    return {"uri": uri, "width": small.width, "height": small.height}
