"""
Rows to parquet shards, by one process or many, from which a killed run resumes.

Shard `k` holds what became of the rows `k * shard_size` to `(k + 1) * shard_size`, whoever computes it, so the dataset
does not depend on the number of processes. A shard appears under its name only when it is complete and on the disk;
`manifest.json` says with which settings the shards were made. `datasets.load_dataset` reads the folder as it is.

The rows of a stream are not known before they are read, so no setting says which they are. Each shard of a stream has
a digest of its source rows instead, and every process reads the whole stream and compares the digests of all shards.
"""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset

from .atomic_file import replacing
from .images import relative_image, resolve_image
from .manifest import open_manifest, read_manifest, write_manifest
from .rows import as_parts
from .tables import mixed_messages, raw_rows, to_table, unified_features


logger = logging.getLogger(__name__)

IDENTITY, _LEFT_OUT = b"trl_mm_shard", b"trl_mm_left_out"

Rows = list[dict[str, Any]]


def write_shards(
    folder: str | os.PathLike,
    rows: Sequence[dict[str, Any]] | Iterable[Any],
    transform: Callable[[Rows], Rows | tuple[Rows, Rows]],
    settings: dict[str, Any],
    *,
    shard_size: int = 256,
    rank: int = 0,
    world_size: int = 1,
    on_shard: Callable[[int, int], None] | None = None,
    command: str | None = None,
    digest: Callable[[Sequence[Any]], str] | None = None,
    image_folder: str | os.PathLike | None = None,
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

    Returns:
        `dict[str, Any]` or `None`:
            The manifest when all shards of all processes are there, `None` before.

    Raises:
        `ValueError`:
            If the folder was made with other settings or rows or holds something else, or a row cannot be stored.
        `OSError`:
            If writing fails, for instance on a full disk. Finished shards stay.
    """
    if shard_size < 1:
        raise ValueError(f"`shard_size` must be at least 1, got {shard_size}.")
    if not 0 <= rank < world_size:
        raise ValueError(f"`rank` must be in [0, `world_size`), got {rank} with `world_size` {world_size}.")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder, rank, world_size)
    manifest = open_manifest(folder, settings, len(rows) if digest is None else None, shard_size, rank, command)
    identities, num_rows = [], 0
    for shard, part in enumerate(_parts(rows, shard_size, is_stream=digest is not None)):
        num_rows += len(part)
        identity = shard_identity(manifest, shard) + (b"" if digest is None else f":{digest(part)}".encode())
        identities.append(identity)
        if digest is not None:
            _check_stored(folder, shard, manifest, identity)
        if shard % world_size != rank:
            continue
        count = stored_rows(folder, shard, identity, verify=True)
        if count is None:
            if shard_path(folder, shard).exists():
                logger.warning("%s is not intact and is made again.", shard_path(folder, shard))
            source, originals = (part, {}) if digest is not None else _source_rows(rows, part)
            stored = transform(source)
            stored, left_out = stored if isinstance(stored, tuple) else (stored, [])
            table = to_table([with_images(row, originals, image_folder) for row in stored])
            metadata = {IDENTITY: identity, **({_LEFT_OUT: json.dumps(left_out).encode()} if left_out else {})}
            write_shard(folder, shard, metadata, table, rank)
            count = len(stored)
        if on_shard is not None:
            on_shard(shard, count)
    if digest is not None:
        manifest = _with_length(folder, manifest, num_rows, rank)
    if all(stored_rows(folder, shard, identity) is not None for shard, identity in enumerate(identities)):
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
    shards = all_shards(folder, manifest)
    counts = {shard: stored_rows(folder, shard, shard_identity(manifest, shard)) for shard in shards}
    missing = [shard for shard, count in counts.items() if count is None]
    if missing:
        raise ValueError(f"{folder}: shards {missing} are missing or not intact. Run the same command again.")
    schemas = {shard: pq.read_schema(shard_path(folder, shard)) for shard in counts}
    features, mixed = unified_features(schemas.values()), mixed_messages(schemas.values())
    # `load_dataset` takes the types from the first shard, which may be empty or have a column that is always `None`.
    for shard, schema in schemas.items():
        if schema.remove_metadata() != features.arrow_schema.remove_metadata():
            rows = [as_parts(row, mixed) for row in pq.read_table(shard_path(folder, shard)).to_pylist()]
            write_shard(folder, shard, schema.metadata, to_table(rows, features), rank)
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


def shard_path(folder: Path, shard: int | str) -> Path:
    """Path of a shard."""
    return folder / f"shard-{shard if isinstance(shard, str) else format(shard, '05d')}.parquet"


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
    return [value for of_shard in metadata for value in json.loads(of_shard.get(_LEFT_OUT, b"[]"))]


def _parts(rows: Any, shard_size: int, is_stream: bool) -> Iterator[Sequence[Any]]:
    """For each shard its source rows, or, where they are known up front, their indices."""
    if not is_stream:
        for start in range(0, len(rows), shard_size):
            yield range(start, min(start + shard_size, len(rows)))
    else:
        rest = iter(rows)
        while part := list(islice(rest, shard_size)):
            yield part


def shard_identity(manifest: dict[str, Any], shard: int | str) -> bytes:
    """What a shard was made with; that of a stream begins with this and goes on with the digest of its source rows."""
    num_rows = None if manifest.get("streamed") else manifest["num_source_rows"]
    made_with = [manifest["settings"], num_rows, manifest["shard_size"]]
    digest = hashlib.sha256(json.dumps(made_with, sort_keys=True).encode()).hexdigest()
    return f"{shard}:{digest}".encode()


def _stored_identity(folder: Path, shard: int | str, verify: bool = False) -> tuple[bytes, int] | None:
    """Identity and number of rows of an intact shard. With `verify`, every page is read against its checksum."""
    try:
        with pq.ParquetFile(shard_path(folder, shard), page_checksum_verification=True) as file:
            if verify:
                for _ in file.iter_batches(batch_size=64):
                    pass
            return (file.schema_arrow.metadata or {}).get(IDENTITY, b""), file.metadata.num_rows
    except (OSError, pa.ArrowException):  # missing, truncated, changed, or no parquet at all
        return None


def stored_rows(folder: Path, shard: int | str, identity: bytes, verify: bool = False) -> int | None:
    """Number of rows of an intact shard whose identity begins with this one, else `None`."""
    found = _stored_identity(folder, shard, verify)
    return found[1] if found and found[0].startswith(identity) else None


def _check_stored(folder: Path, shard: int, manifest: dict[str, Any], identity: bytes) -> None:
    """Refuse a shard that was made with these settings from other rows."""
    found = _stored_identity(folder, shard)
    if found and found[0].startswith(shard_identity(manifest, shard)) and found[0] != identity:
        raise ValueError(
            f"{shard_path(folder, shard)} was made from other rows than those that come now: the source has changed, "
            "or another number of rows is used. Use another folder, or delete this one."
        )


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


def with_images(
    row: dict[str, Any], originals: dict[int, tuple[Any, Any]], image_folder: str | os.PathLike | None
) -> dict[str, Any]:
    """The row with its images as they are stored: embedded, or paths in `image_folder`."""
    if "images" not in row:
        return row
    images = []
    for image in row["images"] or []:
        _, original = originals.get(id(image), (None, image))
        stored = resolve_image(original)
        if image_folder is not None:
            images.append(relative_image(stored, image_folder))
            continue
        data = Path(stored["path"]).read_bytes() if stored["bytes"] is None else stored["bytes"]
        images.append({"bytes": data, "path": stored["path"] and os.path.basename(stored["path"])})
    return {**row, "images": images}


def write_shard(folder: Path, shard: int | str, metadata: dict[bytes, bytes], table: pa.Table, rank: int) -> None:
    kept = {name: metadata[name] for name in (IDENTITY, _LEFT_OUT) if name in metadata}
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), **kept})
    with (
        replacing(shard_path(folder, shard), rank) as file,
        pq.ParquetWriter(file, table.schema, write_page_checksum=True) as writer,
    ):
        if len(table):  # `datasets` fails on a row group without rows
            # Small row groups: viewers and streaming readers load a whole one to show a row.
            writer.write_table(table, row_group_size=64)
