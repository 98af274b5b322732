"""What is done to one row before it may be trained on."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .converters import likely_converter
from .images import ImageError, StoredImage, open_image, resolve_image
from .row_limits import value_error
from .rows import check_row, normalize_row
from .shown import shown, shown_names


Row = dict[str, Any]
Converter = Callable[[Row], Row]


@dataclass(frozen=True)
class RowReader:
    """
    Converts, normalises and checks one row. It can be pickled: `datasets` names its cache files after it.

    Args:
        converter (`Callable` or `None`):
            Pure function from a row as stored to a row of the format.
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

    def read(self, row: Row, index: int, decoded: set[str] | None = None) -> Row:
        """
        Read one row.

        Args:
            row (`dict[str, Any]`):
                Row as stored.
            index (`int`):
                Position in the source, its `row_id` if it has none.
            decoded (`set[str]`, *optional*):
                If given, images are decoded for a check, except those of files in this set, which it adds to.

        Returns:
            `dict[str, Any]`:
                New row of the format, `images` as `{"bytes", "path"}`.

        Raises:
            ImageError: an image is missing or cannot be decoded.
            ValueError: anything else is wrong with the row.
        """
        where = self.where(index)
        if self.converter is not None and isinstance(row, dict):
            try:
                row = self.converter(dict(row))
            except (LookupError, TypeError, ValueError, AttributeError) as error:
                raise ValueError(
                    f"{where}: the converter failed with {shown(error)}. Columns found: {shown_names(row)}. Use the "
                    "converter of this dataset, or correct the row."
                ) from error
        elif isinstance(row, dict) and not {"prompt", "chosen"} & {*row}:
            _refuse_conversation(row, where, self.needs)
        for name, value in row.items() if isinstance(row, dict) else [("", row)]:
            if problem := value_error(name) or value_error(value):
                raise ValueError(f"{where}: `{shown(str(name))}` {problem}.")
        row = normalize_row(row, where)
        check_row(row, where, self.needs)
        row["row_id"] = str(index) if row.get("row_id") is None else str(row["row_id"])
        try:
            row["images"] = [self._store(image, decoded) for image in row.get("images", [])]
        except ImageError as error:
            cure = " Or leave such rows out with `on_bad_image='skip'`." if self.on_bad_image == "error" else ""
            raise ImageError(f"{where}: {error}{cure}") from error
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        return row

    def _store(self, image: Any, decoded: set[str] | None) -> StoredImage:
        try:
            stored = resolve_image(image, self.image_folder)
        except ImageError:
            if self.on_bad_image != "keep":
                raise
            path = image.get("path") if isinstance(image, dict) else image
            return {"bytes": b"", "path": shown(os.fspath(path) if isinstance(path, os.PathLike) else path, 1000)}
        file = stored["path"] if stored["bytes"] is None else None
        if decoded is not None and file not in decoded and self.on_bad_image != "keep":
            open_image(stored)
            if file is not None:
                decoded.add(file)
        return stored


def _refuse_conversation(row: Row, where: str, needs: Sequence[str]) -> None:
    """Name the converter that makes an SFT row of a conversation: renaming columns, as for others, does not help."""
    name = likely_converter(row)
    is_pair = "rejected" in needs and any("reject" in column for column in row)  # of a layout without a converter
    if name is None or is_pair or "prompt" not in needs:
        return
    more = " It gives SFT rows: make `rejected` with `trl-mm bdhs`, or pass `bdhs` too." if "rejected" in needs else ""
    raise ValueError(
        f"{where}: the row is a conversation, and no `converter` was passed. Pass `--converter {name}` "
        f"(`converter=find_converter({name!r})` of `trl_mm.data.converters`).{more}"
    )
