"""
Rows to parquet shards, by one process or many, that a killed run can go on with.

Shard `k` holds what became of the rows `k * shard_size` to `(k + 1) * shard_size`, whoever computes it, so the dataset
does not depend on the number of processes. A shard appears under its name only when it is complete and on the disk;
`manifest.json` says with which settings the shards were made. `datasets.load_dataset` reads the folder as it is.
"""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset

from .images import resolve_image
from .manifest import open_manifest, read_manifest, replacing, write_manifest
from .tables import raw_rows, to_table, unified_features


logger = logging.getLogger(__name__)

_IDENTITY = b"trl_mm_shard"

Rows = list[dict[str, Any]]


def write_shards(
    folder: str | os.PathLike,
    rows: Sequence[dict[str, Any]],
    transform: Callable[[Rows], Rows],
    settings: dict[str, Any],
    *,
    shard_size: int = 256,
    rank: int = 0,
    world_size: int = 1,
    on_shard: Callable[[int, int], None] | None = None,
    command: str | None = None,
) -> dict[str, Any] | None:
    """
    Write `transform(rows)` to a folder, leaving out what an earlier run has finished.

    Args:
        folder (`str` or `Path`):
            Folder of the shards. Every process writes to the same one.
        rows (`Sequence[dict[str, Any]]`):
            Source rows, such as a `datasets.Dataset`. `images` may hold paths, bytes, PIL images, or what `datasets`
            stores; the shards hold the unchanged bytes of the files, and of a changed image a PNG.
        transform (`Callable`):
            Function from the source rows of one shard to the rows to store, fewer or more. To go on where a killed run
            stopped, it must depend on nothing but these rows and `settings`.
        settings (`dict[str, Any]`):
            All that determines the stored rows, source included, as JSON values.
        shard_size (`int`, *optional*, defaults to `256`):
            Number of source rows per shard. Those of one shard are in memory together.
        rank (`int`, *optional*, defaults to `0`):
            This process, which writes every shard `k` with `k % world_size == rank`.
        world_size (`int`, *optional*, defaults to `1`):
            Number of processes.
        on_shard (`Callable`, *optional*):
            Called as `on_shard(shard, num_rows)` for every shard of this process that is finished, in this run or
            before.
        command (`str`, *optional*):
            Command that makes the shards, for the manifest.

    Returns:
        `dict[str, Any]` or `None`:
            The manifest once all shards of all processes are there, `None` before.

    Raises:
        `ValueError`:
            If the folder was made with other settings or holds something else, or a row cannot be stored.
        `OSError`:
            If writing fails, for instance on a full disk. Finished shards stay.
    """
    if shard_size < 1:
        raise ValueError(f"`shard_size` must be at least 1, got {shard_size}.")
    if not 0 <= rank < world_size:
        raise ValueError(f"`rank` must be in [0, `world_size`), got {rank} with `world_size` {world_size}.")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob(".*.rank*.tmp"):
        # A run with more processes may have left some that no process of this run has the rank of.
        if int(leftover.suffixes[-2].removeprefix(".rank")) % world_size == rank:
            leftover.unlink()
    manifest = open_manifest(folder, settings, len(rows), shard_size, rank, command)
    num_shards = _num_shards(manifest)
    for shard in range(rank, num_shards, world_size):
        count = _stored_rows(folder, shard, manifest, verify=True)
        if count is None:
            if _path(folder, shard).exists():
                logger.warning("%s is not intact and is made again.", _path(folder, shard))
            source, originals = _source_rows(rows, shard * shard_size, min((shard + 1) * shard_size, len(rows)))
            stored = [_embed_images(row, originals) for row in transform(source)]
            _write_shard(folder, shard, manifest, to_table(stored), rank)
            count = len(stored)
        if on_shard is not None:
            on_shard(shard, count)
    if all(_stored_rows(folder, shard, manifest) is not None for shard in range(num_shards)):
        return finish_shards(folder, rank=rank)
    return None


def finish_shards(folder: str | os.PathLike, *, rank: int = 0) -> dict[str, Any]:
    """
    Give all shards the same columns and types, and complete the manifest. [`write_shards`] does this itself.

    Args:
        folder (`str` or `Path`):
            Folder of [`write_shards`].
        rank (`int`, *optional*, defaults to `0`):
            This process. Several may do this at the same time.

    Returns:
        `dict[str, Any]`:
            The manifest, with `"complete": True` and the number of rows of each shard under `"shards"`.

    Raises:
        `ValueError`:
            If shards are missing or not intact, or a column has types that do not go together.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    counts = {shard: _stored_rows(folder, shard, manifest) for shard in range(_num_shards(manifest))}
    missing = [shard for shard, count in counts.items() if count is None]
    if missing:
        raise ValueError(f"{folder}: shards {missing} are missing or not intact. Run the same command again.")
    schemas = {shard: pq.read_schema(_path(folder, shard)) for shard in counts}
    # `load_dataset` takes the types from the first shard, which may be empty or have a column that is always `None`.
    features = unified_features(schemas.values())
    for shard, schema in schemas.items():
        if schema.remove_metadata() != features.arrow_schema.remove_metadata():
            rows = pq.read_table(_path(folder, shard)).to_pylist()
            _write_shard(folder, shard, manifest, to_table(rows, features), rank)
    manifest = {
        **manifest,
        "shards": {_path(folder, shard).name: count for shard, count in counts.items()},
        "num_rows": sum(counts.values()),
        "complete": True,
    }
    write_manifest(folder, manifest, rank)
    return manifest


def _num_shards(manifest: dict[str, Any]) -> int:
    return -(-manifest["num_source_rows"] // manifest["shard_size"])


def _path(folder: Path, shard: int) -> Path:
    return folder / f"shard-{shard:05d}.parquet"


def _identity(manifest: dict[str, Any], shard: int) -> bytes:
    made_with = [manifest[key] for key in ("settings", "num_source_rows", "shard_size")]
    digest = hashlib.sha256(json.dumps(made_with, sort_keys=True).encode()).hexdigest()
    return f"{shard}:{digest}".encode()


def _stored_rows(folder: Path, shard: int, manifest: dict[str, Any], verify: bool = False) -> int | None:
    """Number of rows of an intact shard, else `None`. With `verify`, every page is read against its checksum."""
    try:
        with pq.ParquetFile(_path(folder, shard), page_checksum_verification=True) as file:
            if verify:
                for _ in file.iter_batches(batch_size=64):
                    pass
            identity = (file.schema_arrow.metadata or {}).get(_IDENTITY)
            return file.metadata.num_rows if identity == _identity(manifest, shard) else None
    except (OSError, pa.ArrowException):  # missing, truncated, changed, or no parquet at all
        return None


def _source_rows(rows: Sequence[dict[str, Any]], start: int, stop: int) -> tuple[Rows, dict[int, tuple[Any, Any]]]:
    """Source rows, and for each decoded image in them, by `id`: that image, and what it was decoded from."""
    source = [rows[index] for index in range(start, stop)]
    if not isinstance(rows, Dataset) or rows.format["type"] is not None:
        return source, {}
    originals = {}
    for row, stored in zip(source, raw_rows(rows.with_format("arrow")[start:stop], rows.features), strict=True):
        for image, original in zip(row.get("images") or [], stored.get("images") or [], strict=True):
            originals[id(image)] = image, original  # with the image, which keeps its `id` from being used again
    return source, originals


def _embed_images(row: dict[str, Any], originals: dict[int, tuple[Any, Any]]) -> dict[str, Any]:
    if "images" not in row:
        return row
    images = []
    for image in row["images"] or []:
        _, original = originals.get(id(image), (None, image))
        stored = resolve_image(original)
        data = Path(stored["path"]).read_bytes() if stored["bytes"] is None else stored["bytes"]
        images.append({"bytes": data, "path": stored["path"] and os.path.basename(stored["path"])})
    return {**row, "images": images}


def _write_shard(folder: Path, shard: int, manifest: dict[str, Any], table: pa.Table, rank: int) -> None:
    metadata = {**(table.schema.metadata or {}), _IDENTITY: _identity(manifest, shard)}
    table = table.replace_schema_metadata(metadata)
    with (
        replacing(_path(folder, shard), rank) as file,
        pq.ParquetWriter(file, table.schema, write_page_checksum=True) as writer,
    ):
        if len(table):  # `datasets` fails on a row group without rows
            # Small row groups: viewers and streaming readers load a whole one to show a row.
            writer.write_table(table, row_group_size=64)
