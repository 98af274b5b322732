"""
Rows to parquet shards, by one process or many, from which a killed run resumes.

Shard `k` holds what became of the rows `k * shard_size` to `(k + 1) * shard_size`, whoever computes it, so the dataset
does not depend on the number of processes. A shard appears under its name only when it is complete and on the disk;
`manifest.json` says with which settings the shards were made. `datasets.load_dataset` reads the folder as it is.

The rows of a stream are not known before they are read, so no setting says which they are. Each shard of a stream has
a digest of its source rows instead, and every process reads the whole stream and compares the digests of all shards.
"""

import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from datasets import Dataset

from .manifest import open_manifest, read_manifest, write_manifest
from .rows import as_parts
from .shard_files import (
    IDENTITY,
    LEFT_OUT,
    check_stored,
    shard_identity,
    shard_path,
    stored_rows,
    with_images,
    write_shard,
)
from .shown import shown
from .tables import mixed_messages, raw_rows, to_table, unified_features


logger = logging.getLogger(__name__)

Rows = list[dict[str, Any]]


def write_shards(
    folder: str | os.PathLike,
    rows: Sequence[dict[str, Any]] | Iterable[Any],
    transform: Callable[[Any], Rows | tuple[Rows, Rows]],
    settings: dict[str, Any],
    *,
    shard_size: int = 256,
    rank: int = 0,
    world_size: int = 1,
    on_shard: Callable[[int, int], None] | None = None,
    command: str | None = None,
    digest: Callable[[Sequence[Any]], str] | None = None,
    image_folder: str | os.PathLike | None = None,
    mixed_as_text: bool = False,
) -> dict[str, Any] | None:
    """
    Write `transform(rows)` to a folder, leaving out what an earlier run has finished.

    Args:
        folder (`str` or `Path`):
            Folder of the shards. Every process writes to the same one.
        rows (`Sequence[dict[str, Any]]` or `Iterable`):
            Source rows, such as a `datasets.Dataset`. `images` may hold paths, bytes, PIL images, or what `datasets`
            stores; the shards hold the unchanged bytes of the files, and of a changed image a PNG. With `digest` any
            iterable of anything: a stream, which every process reads to its end.
        transform (`Callable`):
            Function from the source rows of one shard to the rows to store, fewer or more. To resume where a killed
            run stopped, it must depend on nothing but these rows and `settings`. It may also return a second list of
            JSON values about rows that are left out, for [`read_left_out`].
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
        digest (`Callable`, *optional*):
            For a stream: function from some source rows to their digest.
        image_folder (`str` or `Path`, *optional*):
            Folder that all images are in. The shards then refer to them by relative paths instead of embedding them.
        mixed_as_text (`bool`, *optional*, defaults to `False`):
            Whether a column outside the format becomes text where its values have several types.

    Returns:
        `dict[str, Any]` or `None`:
            The manifest when all shards of all processes are there, `None` before.

    Raises:
        ValueError: the folder was made with other settings or rows or holds something else, or a row cannot be
            stored.
        OSError: writing fails, for instance on a full disk. Finished shards stay.
    """
    if shard_size < 1:
        raise ValueError(f"`shard_size` must be at least 1, got {shard_size}.")
    if not 0 <= rank < world_size:
        raise ValueError(f"`rank` must be in [0, `world_size`), got {rank} with `world_size` {world_size}.")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder, rank, world_size)
    manifest = open_manifest(folder, settings, len(rows) if digest is None else None, shard_size, rank, command)
    identities, num_rows, finished = [], 0, 0
    for shard, part in enumerate(_parts(rows, shard_size, is_stream=digest is not None)):
        num_rows += len(part)
        identity = shard_identity(manifest, shard) + (b"" if digest is None else f":{digest(part)}".encode())
        identities.append(identity)
        if digest is not None:
            check_stored(folder, shard, manifest, identity)
        if shard % world_size != rank:
            continue
        count = stored_rows(folder, shard, identity, verify=True)
        if count is None:
            if shard_path(folder, shard).exists():
                logger.warning("%s is not intact and is made again.", shard_path(folder, shard))
            source, originals = (part, {}) if digest is not None else _source_rows(rows, part)
            try:
                stored = transform(source)
            except KeyboardInterrupt as stopped:
                raise KeyboardInterrupt(str(stopped) or _how_far(folder, finished)) from None
            stored, left_out = stored if isinstance(stored, tuple) else (stored, [])
            table = to_table(
                [with_images(row, originals, image_folder) for row in stored], mixed_as_text=mixed_as_text
            )
            metadata = {IDENTITY: identity, **({LEFT_OUT: json.dumps(left_out).encode()} if left_out else {})}
            write_shard(folder, shard, metadata, table, rank)
            count = len(stored)
        finished += 1
        if on_shard is not None:
            on_shard(shard, count)
    if digest is not None:
        manifest = _with_length(folder, manifest, num_rows, rank)
    if all(stored_rows(folder, shard, identity) is not None for shard, identity in enumerate(identities)):
        return finish_shards(folder, rank=rank, mixed_as_text=mixed_as_text)
    return None


def finish_shards(folder: str | os.PathLike, *, rank: int = 0, mixed_as_text: bool = False) -> dict[str, Any]:
    """
    Give all shards the same columns and types, and complete the manifest. [`write_shards`] does this itself.

    Args:
        folder (`str` or `Path`):
            Folder of [`write_shards`].
        rank (`int`, *optional*, defaults to `0`):
            This process. Several may do this at the same time.
        mixed_as_text (`bool`, *optional*, defaults to `False`):
            As in [`write_shards`].

    Returns:
        `dict[str, Any]`:
            The manifest, with `"complete": True` and the number of rows of each shard under `"shards"`.

    Raises:
        ValueError: shards are missing or not intact, or a column has types that do not go together.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    shards = all_shards(folder, manifest)
    counts = {shard: stored_rows(folder, shard, shard_identity(manifest, shard)) for shard in shards}
    missing = [shard for shard, count in counts.items() if count is None]
    if missing:
        raise ValueError(f"{folder}: shards {missing} are missing or not intact. Run the same command again.")
    schemas = {shard: pq.read_schema(shard_path(folder, shard)) for shard in counts}
    features, mixed = unified_features(schemas.values(), mixed_as_text=mixed_as_text), mixed_messages(schemas.values())
    # `load_dataset` takes the types from the first shard, which may be empty or have a column that is always `None`.
    for shard, schema in schemas.items():
        if schema.remove_metadata() != features.arrow_schema.remove_metadata():
            rows = [as_parts(row, mixed) for row in pq.read_table(shard_path(folder, shard)).to_pylist()]
            write_shard(folder, shard, schema.metadata, to_table(rows, features, mixed_as_text=mixed_as_text), rank)
    manifest = {
        **manifest,
        "shards": {shard_path(folder, shard).name: count for shard, count in counts.items()},
        "num_rows": sum(counts.values()),
        "complete": True,
    }
    write_manifest(folder, manifest, rank)
    return manifest


def all_shards(folder: Path, manifest: dict[str, Any]) -> Sequence[int | str]:
    """Numbers of the shards that there must be; names of those there for [`AppendableShards`], which know none."""
    if manifest["shard_size"] is None:
        return sorted(path.stem.removeprefix("shard-") for path in folder.glob("shard-*.parquet"))
    if manifest["num_source_rows"] is None:
        raise ValueError(f"{folder}: the source was not read to its end. Run the same command again.")
    return range(-(-manifest["num_source_rows"] // manifest["shard_size"]))


def remove_leftovers(folder: Path, rank: int, world_size: int) -> None:
    """Remove the files that a killed run has not finished, as far as this process has to."""
    for leftover in folder.glob(".*.rank*.tmp"):
        # A run with more processes may have left some that no process of this run has the rank of.
        if int(leftover.suffixes[-2].removeprefix(".rank")) % world_size == rank:
            leftover.unlink()


def read_left_out(folder: str | os.PathLike) -> Rows:
    """
    What the `transform` of [`write_shards`] said about rows that it left out.

    Args:
        folder (`str` or `Path`):
            Complete folder of [`write_shards`].

    Returns:
        `list[dict[str, Any]]`:
            The values in the order of the source.
    """
    names = read_manifest(folder)["shards"]
    metadata = (pq.read_schema(Path(folder) / name).metadata or {} for name in names)
    return [value for of_shard in metadata for value in json.loads(of_shard.get(LEFT_OUT, b"[]"))]


def _how_far(folder: Path, finished: int) -> str:
    shards = "1 shard of this process is" if finished == 1 else f"{finished} shards of this process are"
    return f"Stopped. {shards} finished in {shown(str(folder), 1000)}: the same command resumes from there."


def _parts(rows: Any, shard_size: int, is_stream: bool) -> Iterator[Sequence[Any]]:
    """For each shard its source rows, or, where they are known up front, their indices."""
    if not is_stream:
        for start in range(0, len(rows), shard_size):
            yield range(start, min(start + shard_size, len(rows)))
    else:
        rest = iter(rows)
        while part := list(islice(rest, shard_size)):
            yield part


def _with_length(folder: Path, manifest: dict[str, Any], num_rows: int, rank: int) -> dict[str, Any]:
    """The manifest with the number of rows of a stream, now that its end is known."""
    known = manifest["num_source_rows"]
    num_shards = -(-num_rows // manifest["shard_size"])
    if known not in (None, num_rows) or len(list(folder.glob("shard-*.parquet"))) > num_shards:
        raise ValueError(
            f"{folder} was made from {'more' if known is None else known} rows, and {num_rows} come now. Use another "
            "folder, or delete this one."
        )
    manifest = {**manifest, "num_source_rows": num_rows}
    if known is None:
        write_manifest(folder, manifest, rank)
    return manifest


def _source_rows(rows: Sequence[dict[str, Any]], indices: range) -> tuple[Rows, dict[int, tuple[Any, Any]]]:
    """Source rows, and for each decoded image in them, by `id`: that image, and what it was decoded from."""
    source = [rows[index] for index in indices]
    if not isinstance(rows, Dataset) or rows.format["type"] is not None:
        return source, {}
    table = rows.with_format("arrow")[indices.start : indices.stop]
    originals = {}
    for row, stored in zip(source, raw_rows(table, rows.features), strict=True):
        for image, original in zip(row.get("images") or [], stored.get("images") or [], strict=True):
            originals[id(image)] = image, original  # with the image, which keeps its `id` from being used again
    return source, originals
