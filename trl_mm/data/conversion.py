"""
A dataset of any known layout to shards of rows in the format, in constant memory.

What is wrong with the source costs the rows that it is about and no others: they are counted, and listed in
`bad_rows.jsonl`. Every run reads the source from its beginning; what an earlier one has written is not made again.
"""

import json
import os
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import datasets

from .atomic_file import replacing
from .conversion_tally import Tally, kind_of
from .converters.left_out import LeftOut
from .held_out import ON_BOTH_SIDES, side_of
from .images import ImageError, open_image
from .json_rows import Damage
from .reader import Row, RowReader
from .row_filters import RowFilter
from .rows import as_parts, has_parts
from .source_rows import SourceRows
from .streaming import StreamedRow


_CURE = "Correct it, or leave out `strict` to go on without such rows."


class ConvertedRows:
    """
    Rows of a source as they come out of a converter. They can be read again from the beginning.

    Args:
        source ([`SourceRows`]):
            The source.
        reader ([`RowReader`]):
            What converts and checks a row; with `on_bad_image="skip"`.
        bad_rows_file (`Path`):
            List of what is left out or bad.
        row_filter ([`RowFilter`], *optional*):
            Which rows are wanted.
        positions (`Sequence[int]`, *optional*):
            Use only these of the rows that would come otherwise, counted from 0 and rising.
        test_share (`float`, *optional*):
            Share of the images that are held out.
        side (`str`, *optional*):
            With `test_share`, the side whose rows come: `"train"` or `"test"`.
        check_images (`bool`, *optional*, defaults to `True`):
            Whether [`checked`] decodes every image.
        strict (`bool`, *optional*, defaults to `False`):
            Whether what is left out or bad is an error.

    Iterating gives a [`StreamedRow`] for each row; `tally` has the counts of the last time.
    """

    def __init__(
        self,
        source: SourceRows,
        reader: RowReader,
        bad_rows_file: Path,
        *,
        row_filter: RowFilter | None = None,
        positions: Sequence[int] | None = None,
        test_share: float | None = None,
        side: str | None = None,
        check_images: bool = True,
        strict: bool = False,
        desc: str = "Converting",
    ):
        self.source, self.reader, self.bad_rows_file = source, reader, bad_rows_file
        self.row_filter = row_filter or RowFilter()
        self.test_share, self.side, self.check_images, self.strict = test_share, side, check_images, strict
        self.desc, self.tally = desc, Tally()
        self.wanted: Container[int] | None = None
        self.end: int | None = None
        if positions is not None:
            self.wanted = positions if isinstance(positions, range) else frozenset(positions)
            self.end = positions[-1] + 1 if positions else 0

    def __iter__(self) -> Iterator[StreamedRow]:
        self.tally, position = Tally(), 0
        self.bad_rows_file.parent.mkdir(parents=True, exist_ok=True)
        progress = datasets.utils.tqdm(total=self.source.num_rows, desc=self.desc, unit=" rows")
        with replacing(self.bad_rows_file, os.getpid()) as self._list, progress:
            for index, value in self.source:
                if self.end is not None and position >= self.end:
                    break
                progress.update()
                for row in self._rows(index, value):
                    if (self.wanted is None or position in self.wanted) and self._is_on_side(row, index):
                        self.tally.kept += 1
                        self.tally.safety += bool(row.get("is_safety"))
                        yield StreamedRow(index, row)
                    position += 1

    def checked(self, items: Sequence[StreamedRow]) -> tuple[list[Row], list[dict[str, Any]]]:
        """
        Rows to be stored, and what [`write_shards`] notes of those whose images cannot be decoded.

        Args:
            items (`Sequence[StreamedRow]`): what iterating gave.

        Returns:
            `(list[dict], list[dict])`: rows, and `file`, `row` and `reason` of the others.

        Raises:
            ImageError: an image cannot be decoded, and `strict` is set.
        """
        stored = [(index, row) for index, row, *_ in items if row is not None]
        errors = self._image_errors(image for _, row in stored for image in row["images"])
        rows, bad = [], []
        for index, row in stored:
            error = next((errors[key] for image in row["images"] if (key := _key(image)) in errors), None)
            if error is None:
                rows.append(row)
                continue
            reason = f"{self.reader.where(index)}: {error}"
            if self.strict:
                raise ImageError(f"{reason} {_CURE}")
            file, position = self.reader.locate(index)
            bad.append({"file": file, "row": position, "reason": reason})
        return [as_parts(row) for row in rows] if any(map(has_parts, rows)) else rows, bad

    def _image_errors(self, images: Any) -> dict[Any, str]:
        """What is wrong with images, by [`_key`]."""
        # The same image in several rows is decoded once
        distinct = {_key(image): image for image in images} if self.check_images else {}
        with ThreadPoolExecutor() as pool:
            found = pool.map(_image_error, distinct.values())
            return {key: error for key, error in zip(distinct, found, strict=True) if error is not None}

    def _rows(self, index: int, value: Any) -> Iterator[Row]:
        """The good and wanted rows of one row of the source."""
        if isinstance(value, Damage):
            self.tally.read += value.count
            self._note(index, self.tally.bad, value.reason)
            return
        self.tally.read += 1
        try:
            made = self.reader.convert(value, index)
        except LeftOut as left_out:
            self._note(index, self.tally.left_out, str(left_out))
            return
        except ValueError as error:
            self._note(index, self.tally.bad, str(error))
            return
        for reason in getattr(made, "left_out", ()):
            self.tally.add(self.tally.pairs_left_out, reason)
        for row in made:
            reason = self.row_filter.reason(row) if isinstance(row, dict) else None
            if reason is not None:
                self.tally.add(self.tally.filtered, reason)
                continue
            try:
                row = self.reader.check(row, index)
            except ValueError as error:
                self.tally.images_missing += isinstance(error, ImageError)
                self._note(index, self.tally.bad, str(error))
                continue
            self.tally.images_found += len(row["images"])
            yield row

    def _is_on_side(self, row: Row, index: int) -> bool:
        if self.test_share is None:
            return True
        side = side_of(row, self.test_share)
        if side is None:
            self._note(index, self.tally.left_out, ON_BOTH_SIDES)
        return side == self.side

    def _note(self, index: int, kind: Counter[str], reason: str) -> None:
        file, position = self.reader.locate(index)
        if self.strict:
            where = "" if kind is self.tally.bad else f"{self.reader.where(index)}: left out, "
            raise ValueError(f"{where}{reason.rstrip('.')}. {_CURE}")
        self.tally.first = self.tally.first or reason
        self.tally.add(kind, reason if kind is self.tally.left_out else kind_of(reason))
        self._list.write(json.dumps({"file": file, "row": position, "reason": reason}).encode() + b"\n")


def _key(image: dict[str, Any]) -> Any:
    return image["path"] if image["bytes"] is None else image["bytes"]


def _image_error(image: dict[str, Any]) -> str | None:
    try:
        open_image(image)
    except ImageError as error:
        return str(error)
    return None
