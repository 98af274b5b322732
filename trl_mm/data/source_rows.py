"""
The rows of a source one after another, whatever is damaged in it.

Reading for training stops at what cannot be read. Here it goes on: a truncated file, half a line or a page that does
not fit its checksum is a [`Damage`] in the place of the rows that were there.
"""

import json
import os
from bisect import bisect_right
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from .json_rows import Damage, JSONRows
from .meta_rows import MetaRows, read_meta
from .parquet_rows import ParquetRows
from .reader import Row
from .shown import shown
from .sources import Source, check_split, is_saved, local_files, local_folder, open_stream
from .tsv_rows import TSVRows


_LARGEST_OBJECT = 1 << 24  # bytes


class SourceRows:
    """
    Rows of a local file or folder, or of a dataset on the Hub, as they are stored, images not decoded. They can be
    read again from their beginning.

    Args:
        name_or_path (`str` or `Path`): what to read, as for [`load_preferences`].
        split (`str`): name of the split.
        **load_dataset_kwargs: further arguments of `datasets.load_dataset`.

    Iterating gives the position of each row and the row, or a [`Damage`] in its place.

    Raises:
        FileNotFoundError: it is neither here nor on the Hub.
        ValueError: there is no such split, or the kind of file is unknown.
    """

    def __init__(self, name_or_path: str | os.PathLike, split: str = "train", **load_dataset_kwargs: Any):
        self.folder = local_folder(name_or_path)
        self._files: JSONRows | MetaRows | ParquetRows | TSVRows | None = read_meta(Path(name_or_path))
        if self._files is not None:
            check_split(name_or_path, split, ["train"])
        elif self.folder is not None and not is_saved(Path(name_or_path)):
            files = local_files(Path(name_or_path), split)
            if files[0].suffix == ".parquet":
                self._files = ParquetRows(files)
            elif files[0].suffix == ".tsv":
                self._files = TSVRows(files, goes_on=True)
            elif files[0].suffix != ".csv":
                self._files = JSONRows(files, goes_on=True)
        self._stream = None if self._files else open_stream(name_or_path, split, load_dataset_kwargs)
        # Files that were begun, and the position of the first row of each
        self._names: list[str] = []
        self._starts: list[int] = []

    @property
    def num_rows(self) -> int | None:
        """Number of rows, `None` if it is not known before all are read."""
        if isinstance(self._files, ParquetRows):
            return self._files.num_rows
        rows = self._stream and self._stream.rows
        splits, split = getattr(getattr(rows, "info", None), "splits", None), getattr(rows, "split", None)
        known = splits.get(str(split)) if splits and split else None
        return known.num_examples if known else None

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        if self._stream is not None:
            yield from self._of_stream(self._stream)
            return
        assert self._files is not None
        self._names, self._starts = [], []
        index = 0
        for file in self._files.files:
            self._names.append(str(file))
            self._starts.append(index)
            for value in self._files.values(file):
                yield index, value
                index += value.count if isinstance(value, Damage) else 1

    def _of_stream(self, stream: Source) -> Iterator[tuple[int, Any]]:
        index = -1
        try:
            for index, row in enumerate(stream.rows):
                yield index, row
        except (OSError, RuntimeError, pa.ArrowException) as error:
            if self.folder is not None:
                raise
            raise OSError(
                f"{', '.join(stream.files)}: the Hub stopped after {index + 1:,} rows: {shown(str(error), 500)}. Run "
                "the same command again: what is written stays."
            ) from error

    def first(self, count: int = 16) -> list[Row]:
        """The first rows that can be read."""
        values = (value for _, value in islice(self, 1000) if isinstance(value, dict))
        return list(islice(values, count))

    def check(self) -> None:
        """Refuse a file that is one JSON object of several lines, a table of columns for instance, and no rows."""
        files = self._files.files if isinstance(self._files, JSONRows) else ()
        if len(files) != 1 or files[0].stat().st_size > _LARGEST_OBJECT or self.first(1):
            return
        try:
            value = json.loads(files[0].read_text(encoding="utf-8-sig"))
        except (ValueError, RecursionError):
            return  # what is wrong with each line is said when it is read
        if isinstance(value, dict):
            raise ValueError(
                f"{shown(str(files[0]), 1000)} is one JSON object, not rows. Write one object per line, or one list."
            )

    def locate(self, index: int) -> tuple[str, int]:
        """File of a row that has been read, and its position there, counted from 0."""
        if self._stream is not None:
            return self._stream.locate(index)
        # Of several files that begin here, all but the last one have no rows
        file = max(bisect_right(self._starts, index) - 1, 0)
        return (self._names[file], index - self._starts[file]) if self._names else ("", index)
