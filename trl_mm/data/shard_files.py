"""One shard of a folder: its name, what it was made with, and whether it is intact."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from .atomic_file import replacing
from .images import relative_image, resolve_image


# Keys in the metadata of a shard's schema
IDENTITY, LEFT_OUT = b"trl_mm_shard", b"trl_mm_left_out"


def shard_path(folder: Path, shard: int | str) -> Path:
    """Path of a shard."""
    return folder / f"shard-{shard if isinstance(shard, str) else format(shard, '05d')}.parquet"


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


def check_stored(folder: Path, shard: int, manifest: dict[str, Any], identity: bytes) -> None:
    """Refuse a shard that was made with these settings from other rows."""
    found = _stored_identity(folder, shard)
    if found and found[0].startswith(shard_identity(manifest, shard)) and found[0] != identity:
        raise ValueError(
            f"{shard_path(folder, shard)} was made from other rows than those that come now: the source has changed, "
            "or another number of rows is used. Use another folder, or delete this one."
        )


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
    """Write one shard with what says how it was made; of other metadata nothing is kept."""
    kept = {name: metadata[name] for name in (IDENTITY, LEFT_OUT) if name in metadata}
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), **kept})
    with (
        replacing(shard_path(folder, shard), rank) as file,
        pq.ParquetWriter(file, table.schema, write_page_checksum=True) as writer,
    ):
        if len(table):  # `datasets` fails on a row group without rows
            # Small row groups: viewers and streaming readers load a whole one to show a row.
            writer.write_table(table, row_group_size=64)
