"""What is done to one row before it may be trained on."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .converters import converter_of
from .converters.left_out import LeftOut, leave_out_video
from .converters.pairs import MadeRows
from .images import ImageError, StoredImage, open_image, resolve_image
from .layouts import is_unpaired
from .row_limits import value_error
from .rows import check_row, normalize_row
from .shown import shown, shown_names


Row = dict[str, Any]
Converter = Callable[[Row], Row | list[Row]]


@dataclass(frozen=True)
class RowReader:
    """
    Converts, normalises and checks one row. It can be pickled: `datasets` names its cache files after it.

    Args:
        converter (`Callable` or `None`):
            Pure function from a row as stored to a row of the format, or to a list of such rows. It raises
            [`~trl_mm.data.converters.left_out.LeftOut`] for a row that makes none.
        image_folder (`str`, `Path` or `None`):
            Folder that image paths start from and may not leave; `None` allows any path.
        needs (`Sequence[str]`):
            Columns that a row must have.
        on_bad_image (`str`):
            `"error"` or `"skip"`: what the caller does with an `ImageError`. With `"keep"` there is none: a missing
            file becomes an image of no bytes, and nothing is decoded.
        locate (`Callable`):
            From the index of a row to its file (or `""`) and its position there, for messages.
    """

    converter: Converter | None
    image_folder: str | os.PathLike | None
    needs: Sequence[str]
    on_bad_image: str
    locate: Callable[[int], tuple[str, int]]

    def __post_init__(self):
        if self.on_bad_image not in ("error", "skip", "keep"):
            raise ValueError(f"`on_bad_image` must be 'error', 'skip' or 'keep', got {self.on_bad_image!r}.")

    def where(self, index: int) -> str:
        """File and position of a row, for messages."""
        file, position = self.locate(index)
        return f"{shown(file, 1000)}, row {position}" if file else f"row {position}"

    def read(self, row: Row, index: int, decoded: set[str] | None = None) -> list[Row]:
        """
        Read one row.

        Args:
            row (`dict[str, Any]`):
                Row as stored.
            index (`int`):
                Position in the source, its `row_id` if it has none. Several rows that are made of it without an id of
                their own are `"{index}-0"`, `"{index}-1"` and so on.
            decoded (`set[str]`, *optional*):
                If given, images are decoded for a check, except those of files in this set, which it adds to.

        Returns:
            `list[dict[str, Any]]`:
                New rows of the format, `images` as `{"bytes", "path"}`: one, or with a converter one or more.

        Raises:
            LeftOut: the converter leaves the row out.
            ImageError: an image is missing or cannot be decoded.
            ValueError: anything else is wrong with the row.
        """
        rows, inside = self.convert(row, index), set[int]()
        if len(rows) == 1:
            return [self.check(rows[0], index, decoded, inside)]
        return [self.check(made, index, decoded, inside) for made in rows]

    def convert(self, row: Row, index: int) -> list[Row]:
        """The rows that a row as stored makes, each with its `row_id`, before anything is checked; see [`read`]."""
        if not isinstance(row, dict):
            return [row]
        if self.converter is None:
            leave_out_video(row)
            given = row.get("row_id")
            return [{**row, "row_id": str(index if given is None else given)}]
        rows = self._converted(self.converter, row, index)
        if not all(isinstance(made, dict) for made in rows):
            return rows
        names = [str(index)] if len(rows) == 1 else [f"{index}-{number}" for number in range(len(rows))]
        own = [made.get("row_id") for made in rows]
        ids = [name if given is None else str(given) for name, given in zip(names, own, strict=True)]
        if len({*ids}) < len(ids):  # all have the id of the row that they are made of
            ids = [f"{name}-{number}" for number, name in enumerate(ids)]
        made_rows = ({**made, "row_id": name} for made, name in zip(rows, ids, strict=True))
        return MadeRows(made_rows, getattr(rows, "left_out", ()))

    def _converted(self, converter: Converter, row: Row, index: int) -> list[Row]:
        try:
            converted = converter(dict(row))
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(
                f"{self.where(index)}: the converter failed with {shown(error)}. Columns found: {shown_names(row)}. "
                "Use the converter of this dataset, or correct the row."
            ) from error
        rows = converted if isinstance(converted, list) else [converted]
        if not rows:
            raise LeftOut("no pair in the row")
        return rows

    def check(self, row: Row, index: int, decoded: set[str] | None = None, inside: set[int] | None = None) -> Row:
        """
        A row of the format from one that [`convert`] made; arguments and errors as in [`read`]. `inside` has the `id`s
        of images that were decoded in rows which share them, and is added to.
        """
        where, inside = self.where(index), set() if inside is None else inside
        for column, value in row.items() if isinstance(row, dict) else [("", row)]:
            if problem := value_error(column) or value_error(value):
                raise ValueError(f"{where}: `{shown(str(column))}` {problem}.")
        stored, row = row, normalize_row(row, where)
        if self.converter is None and not all(name in row for name in self.needs):
            _name_converter(stored, where, self.needs)
        check_row(row, where, self.needs)
        try:
            row["images"] = [self._store(image, decoded, inside) for image in row.get("images", [])]
        except ImageError as error:
            cure = " Or leave such rows out with `on_bad_image='skip'`." if self.on_bad_image == "error" else ""
            raise ImageError(f"{where}: {error}{cure}") from error
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        return row

    def _store(self, image: Any, decoded: set[str] | None, inside: set[int]) -> StoredImage:
        try:
            stored = resolve_image(image, self.image_folder)
        except ImageError:
            if self.on_bad_image != "keep":
                raise
            path = image.get("path") if isinstance(image, dict) else image
            return {"bytes": b"", "path": shown(os.fspath(path) if isinstance(path, os.PathLike) else path, 1000)}
        if decoded is None or self.on_bad_image == "keep":
            return stored
        # Rows that are made of one row share the bytes of its images
        known: set[Any] = decoded if stored["bytes"] is None else inside
        key = stored["path"] if stored["bytes"] is None else id(stored["bytes"])
        if key not in known:
            open_image(stored)
            known.add(key)
        return stored


def _name_converter(row: Row, where: str, needs: Sequence[str]) -> None:
    """Name the converter of a row that is not in the format: renaming columns, as for others, does not help."""
    if is_unpaired(row):
        return  # which `check_row` says
    name = converter_of(row)
    of_one_answer = name in OF_ONE_ANSWER or (name in OF_EITHER and not any("reject" in column for column in row))
    is_pair = "rejected" in needs and any("reject" in column for column in row)  # of a layout without a converter
    if name in (None, GENERIC) or (of_one_answer and (is_pair or "prompt" not in needs)):
        return
    more = " It gives SFT rows: make `rejected` with `trl-mm bdhs`, or pass `bdhs` too."
    raise ValueError(
        f"{where}: the row is written for the converter `{name}`, and no `converter` was passed. Pass `--converter "
        f"{name}` (`converter={name!r}`).{more if of_one_answer and 'rejected' in needs else ''}"
    )


GENERIC = "generic"  # converter of rows whose columns need other names and no more, which `check_row` says
OF_ONE_ANSWER = ("llava_instruct",)
OF_EITHER = ("ms_swift", "llama_factory_v1")  # pairs or SFT rows
