"""
Rows to parquet shards while they are made, step after step, so that nobody knows how many there will be.

The shards, their manifest and what reads them are those of [`write_shards`]. A shard holds all rows of one process
from some step on, and is named after both.
"""

import logging
import os
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from .manifest import open_manifest, write_manifest
from .shard_files import IDENTITY, shard_identity, shard_path, stored_rows, with_images, write_shard
from .shards import all_shards, finish_shards, remove_leftovers
from .tables import to_table


logger = logging.getLogger(__name__)


class AppendableShards:
    """
    Shards that grow with each step.

    Args:
        folder (`str` or `Path`):
            Folder of the shards. Every process writes to the same one.
        settings (`dict[str, Any]`):
            All that determines the rows, as JSON values.
        start (`int`, *optional*, defaults to `0`):
            Step to resume from. What the folder holds of this step and later ones is removed: it is made again.
        rank (`int`, *optional*, defaults to `0`):
            This process.
        world_size (`int`, *optional*, defaults to `1`):
            Number of processes. An earlier run may have had another.
        shard_size (`int`, *optional*, defaults to `256`):
            Number of rows after which a shard is written, at the end of their step. They are in memory until then.

    Raises:
        ValueError: the folder was made with other settings or holds something else.
        OSError: writing fails. Shards that are there stay.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        settings: dict[str, Any],
        *,
        start: int = 0,
        rank: int = 0,
        world_size: int = 1,
        shard_size: int = 256,
    ):
        self.folder, self.rank, self.shard_size = Path(folder), rank, shard_size
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(self.folder, rank, world_size)
        self._manifest = open_manifest(self.folder, settings, None, None, rank)
        if self._manifest["complete"]:
            self._manifest = {key: self._manifest[key] for key in self._manifest.keys() - {"shards", "num_rows"}}
            write_manifest(self.folder, {**self._manifest, "complete": False}, rank)
        for shard in all_shards(self.folder, self._manifest):
            step, writer = map(int, str(shard).split("-"))
            if writer % world_size == rank:
                self._cut(str(shard), step, start)
        self._rows: list[dict[str, Any]] = []

    def add(self, rows: list[dict[str, Any]], step: int) -> None:
        """Take rows of a step, which become rows with a column `step`."""
        self._rows += [{**row, "step": step} for row in rows]

    def end_step(self, write: bool = False) -> None:
        """Write a shard if there are enough rows for one, or, with `write`, any. No rows of the step may follow."""
        if self._rows and (write or len(self._rows) >= self.shard_size):
            shard = f"{self._rows[0]['step']:07d}-{self.rank:03d}"
            self._write(shard, [with_images(row, {}, None) for row in self._rows])
            self._rows = []

    def finish(self) -> dict[str, Any]:
        """Complete the manifest, when all processes have written their last shards; returns it."""
        return finish_shards(self.folder, rank=self.rank)

    def _cut(self, shard: str, step: int, start: int) -> None:
        path = shard_path(self.folder, shard)
        if step >= start:
            path.unlink()
            return
        if stored_rows(self.folder, shard, shard_identity(self._manifest, shard)) is None:
            logger.warning("%s is not intact and is removed. Rows of step %d and later are missing.", path, step)
            path.unlink()
            return
        # It goes past `start` if the run that wrote it did not stop to save there
        if pc.max(pq.read_table(path, columns=["step"])["step"]).as_py() >= start:
            self._write(shard, pq.read_table(path, filters=pc.field("step") < start).to_pylist())

    def _write(self, shard: str, rows: list[dict[str, Any]]) -> None:
        identity = {IDENTITY: shard_identity(self._manifest, shard)}
        write_shard(self.folder, shard, identity, to_table(rows), self.rank)
