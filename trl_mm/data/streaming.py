"""Rows that are read, converted and checked one after another, by whoever needs them: nothing is known up front."""

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import datasets
from datasets import IterableDataset

from .converter_choice import choose_converter
from .converters.left_out import LeftOut
from .fingerprints import image_digest
from .images import ImageError, with_open_images
from .reader import Converter, Row, RowReader
from .rows import PREFERENCE_COLUMNS, as_parts, has_parts
from .sources import open_stream


logger = logging.getLogger(__name__)


class StreamedRow(NamedTuple):
    """
    A row and its place in the source.

    Attributes:
        index (`int`): position in the source, counted from 0.
        row (`dict`, *optional*): row of the format, images as they are stored; `None` if one of them is missing, or
            if the converter leaves the row out.
        reason (`str`): why there is no row.
        is_left_out (`bool`): whether the converter has left it out.
    """

    index: int
    row: Row | None
    reason: str = ""
    is_left_out: bool = False


@dataclass(frozen=True)
class RowStream:
    """
    Rows as they come. It can be read again from its beginning, as often as needed.

    Args:
        rows (`Iterable[dict[str, Any]]`):
            Rows as stored, images not decoded.
        reader ([`RowReader`]):
            What converts and checks a row.
        max_rows (`int`, *optional*):
            Use only the first rows.

    Iterating gives a [`StreamedRow`] for each row of the source, so positions do not depend on which images are bad;
    where a converter makes several rows of one, each has its own. It raises a `ValueError` where a row is bad, with
    `on_bad_image="error"` also where an image is missing.
    """

    rows: Iterable[Row]
    reader: RowReader
    max_rows: int | None = None
    _digests: dict[str, str] = field(default_factory=dict, init=False, repr=False, compare=False)  # of image files

    def __iter__(self) -> Iterator[StreamedRow]:
        for index, row in enumerate(islice(self.rows, self.max_rows)):
            try:
                made = self.reader.read(row, index)
            except LeftOut as reason:
                yield StreamedRow(index, None, str(reason), is_left_out=True)
            except ImageError as error:
                if self.reader.on_bad_image == "error":
                    raise
                yield StreamedRow(index, None, str(error))
            else:
                yield from (StreamedRow(index, row) for row in made)

    def decode(self, items: Sequence[StreamedRow]) -> tuple[list[Row], list[Row], list[Row]]:
        """
        Decode the images of some rows.

        Args:
            items (`Sequence[StreamedRow]`):
                What iterating gave.

        Returns:
            `(list[dict], list[dict], list[dict])`:
                Rows with images as they are stored, the same rows with PIL images, and for each row that is left out
                `row`, `file` and `reason`.

        Raises:
            ImageError: with `on_bad_image="error"`, if an image cannot be decoded.
        """
        stored, decoded, bad = [], [], []
        for index, row, reason, is_left_out in items:
            if is_left_out:
                file, position = self.reader.locate(index)
                bad.append({"row": position, "file": file, "reason": reason})
                continue
            try:
                if row is None:
                    raise ImageError(reason)
                decoded.append(with_open_images(row, self.reader.where(index)))
                stored.append(row)
            except ImageError as error:
                if self.reader.on_bad_image == "error":
                    raise ImageError(f"{error} Or leave such rows out with `on_bad_image='skip'`.") from error
                logger.warning("A row is skipped. %s", error)
                file, position = self.reader.locate(index)
                bad.append({"row": position, "file": file, "reason": str(error)})
        if any(has_parts(row) for row in stored):
            stored, decoded = [as_parts(row) for row in stored], [as_parts(row) for row in decoded]
        return stored, decoded, bad

    def digest(self, items: Sequence[StreamedRow]) -> str:
        """[`items_digest`] of rows; each image file is read once."""
        return items_digest(items, self._digests)


def stream_preferences(
    name_or_path: str | os.PathLike,
    *,
    split: str = "train",
    converter: Converter | str | None = None,
    columns: Mapping[str, str] | None = None,
    image_folder: str | os.PathLike | None = None,
    needs: Sequence[str] = PREFERENCE_COLUMNS,
    on_bad_image: str = "error",
    max_rows: int | None = None,
    **load_dataset_kwargs: Any,
) -> RowStream:
    """
    Open rows as [`load_preferences`] does, but read none of them: for datasets that are larger than the memory or the
    disk.

    Args:
        name_or_path, split, converter, columns, image_folder, needs, load_dataset_kwargs:
            As in [`load_preferences`].
        on_bad_image (`str`, *optional*, defaults to `"error"`):
            `"error"`, or `"skip"` to leave out rows with a missing or undecodable image.
        max_rows (`int`, *optional*):
            Use only the first rows.

    Returns:
        [`RowStream`]:
            The rows.

    Raises:
        FileNotFoundError: there is no such file, folder or dataset.
    """
    if on_bad_image == "keep":
        raise ValueError("`on_bad_image='keep'` needs all rows in memory. Use `load_preferences`.")
    source = open_stream(name_or_path, split, load_dataset_kwargs)
    image_folder = image_folder or source.folder or datasets.config.HF_CACHE_HOME
    converter = choose_converter(converter, columns, source.rows, source.locate, needs)
    return RowStream(source.rows, RowReader(converter, image_folder, needs, on_bad_image, source.locate), max_rows)


def as_stream(rows: IterableDataset, needs: Sequence[str]) -> RowStream:
    """Rows of an iterable dataset in the format, as [`RowStream`]. Decoded images become PNG."""
    rows = rows if rows.features is None else rows.decode(False)
    return RowStream(rows, RowReader(None, None, needs, "error", lambda index: ("", index)))


def checked_stream(rows: IterableDataset, reader: RowReader) -> IterableDataset:
    """Rows of an iterable dataset as the reader makes them, with images decoded, when they are read."""
    if rows.features is not None:
        rows = rows.decode(False)
    columns = rows.column_names or list(next(iter(rows)))
    # Small batches: `datasets` keeps the decoded images of one in memory.
    return rows.map(
        partial(_streamed, reader=reader), batched=True, batch_size=16, with_indices=True, remove_columns=columns
    )


def _streamed(batch: dict[str, list], indices: Sequence[int], reader: RowReader) -> dict[str, list]:
    rows = []
    for index, values in zip(indices, zip(*batch.values(), strict=True), strict=True):
        try:
            made = reader.read(dict(zip(batch, values, strict=True)), index)
            rows += [with_open_images(row, reader.where(index)) for row in made]
        except LeftOut as reason:
            logger.info("%s is left out: %s", reader.where(index), reason)
        except ImageError as error:
            if reader.on_bad_image == "error":
                raise
            logger.warning("A row is skipped. %s", error)
    return {name: [row.get(name) for row in rows] for name in dict.fromkeys(name for row in rows for name in row)}


def items_digest(items: Sequence[StreamedRow], digests: dict[str, str]) -> str:
    """Digest of what some rows say and show (`str`); `digests` keeps those of image files, by path."""
    digest = hashlib.sha256()
    for _, row, *_ in items:
        said = row and [row.get(name) for name in ("row_id", "prompt", "chosen", "rejected")]
        shown = row and [image_digest(image, digests) for image in row["images"]]
        digest.update(json.dumps([said, shown], sort_keys=True, default=str).encode())
    return digest.hexdigest()
