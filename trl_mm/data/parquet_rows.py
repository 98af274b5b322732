"""
Rows of parquet files one after another, images as they are stored: no more than a few of them are in memory.

Not through the streaming of `datasets`: Arrow's scanner, which it uses, reads ahead in threads that cannot be ended.
Where a command looks at the first rows only and is done soon after, they abort the process (apache/arrow#45214).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Features

from .json_rows import Damage
from .shown import shown
from .tables import raw_rows


_BATCH = 64  # rows in memory at once
_UNREADABLE = (OSError, pa.ArrowException, ValueError)  # ValueError: what the metadata of `datasets` says is no type


@dataclass(frozen=True)
class ParquetRows:
    """
    The rows of parquet files.

    Args:
        files (`Sequence[Path]`): the files.

    Iterating raises a `ValueError` where something cannot be read; `values` gives a [`Damage`] in its place.
    """

    files: Sequence[Path]

    def __iter__(self) -> Iterator[Any]:
        for file in self.files:
            for value in self.values(file):
                if isinstance(value, Damage):
                    raise ValueError(value.reason)
                yield value

    def values(self, file: Path) -> Iterator[Any]:
        """The rows of one file."""
        try:
            with pq.ParquetFile(file, page_checksum_verification=True) as opened:
                features = Features.from_arrow_schema(opened.schema_arrow)
                for group in range(opened.num_row_groups):
                    yield from self._of_group(opened, group, features, file)
        except _UNREADABLE as error:
            yield Damage(f"{shown(str(file), 1000)} is no intact parquet file: {_short(error)}. Download it again.")

    def _of_group(self, opened: pq.ParquetFile, group: int, features: Features, file: Path) -> Iterator[Any]:
        left = opened.metadata.row_group(group).num_rows
        try:
            for batch in opened.iter_batches(_BATCH, row_groups=[group]):
                rows = raw_rows(pa.Table.from_batches([batch]), features)
                left -= len(rows)
                yield from rows
        except _UNREADABLE as error:
            yield Damage(
                f"{shown(str(file), 1000)}, row group {group}: {left} rows cannot be read: {_short(error)}.", left
            )

    @property
    def num_rows(self) -> int:
        """Number of rows, as far as files can be read."""
        return sum(map(_num_rows, self.files))


def _num_rows(file: Path) -> int:
    try:
        return int(pq.read_metadata(file).num_rows)
    except _UNREADABLE:
        return 0


def _short(error: Exception) -> str:
    return shown(str(error).rstrip("."), 300)
