"""The manifest of a folder of shards: with which settings they were made, and whether all are there."""

import json
import logging
import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .atomic_file import replacing


logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"


def read_manifest(folder: str | os.PathLike) -> dict[str, Any]:
    """
    Read the manifest of a folder of shards.

    Args:
        folder (`str` or `Path`):
            Folder of [`write_shards`].

    Returns:
        `dict[str, Any]`:
            `settings`, `num_source_rows` (`None` for a stream that was not read to its end), `shard_size`, `versions`
            of the packages, `command` if known, `complete`, and when complete `num_rows` and `shards` (file name to
            number of rows).

    Raises:
        FileNotFoundError: there is none.
        ValueError: the file is no such manifest.
    """
    path = Path(folder) / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} does not exist, so {folder} is no folder of shards.") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON: {error}. Use another folder, or delete this one.") from error
    if not isinstance(manifest, dict) or not {"settings", "num_source_rows", "shard_size"} <= manifest.keys():
        raise ValueError(f"{path} was not written by trl_mm. Use another folder, or delete this one.")
    return manifest


def open_manifest(
    folder: Path,
    settings: dict[str, Any],
    num_rows: int | None,
    shard_size: int | None,
    rank: int,
    command: str | None = None,
) -> dict[str, Any]:
    """
    Read the manifest of a folder, or begin one.

    Args:
        folder (`Path`):
            Folder of the shards.
        settings (`dict[str, Any]`):
            Settings as JSON values.
        num_rows (`int`, *optional*):
            Number of source rows; `None` for a stream, which is any number.
        shard_size (`int`, *optional*):
            Number of source rows per shard; `None` if each has its own.
        rank (`int`):
            This process.
        command (`str`, *optional*):
            Command that makes the shards. The manifest keeps the first; another is no other setting.

    Returns:
        `dict[str, Any]`:
            The manifest as stored.

    Raises:
        ValueError: there is one with other settings, or the folder holds parquet files without one, or `settings`
            holds something that is no JSON.
    """
    try:
        settings = json.loads(json.dumps(settings))  # as they read back: tuples become lists
    except TypeError as error:
        raise ValueError(f"`settings` must be JSON values: {error}. Pass text or numbers.") from error
    wanted = {
        "settings": settings,
        "num_source_rows": num_rows,
        "shard_size": shard_size,
        "versions": {name: installed_version(name) for name in ("trl-mm", "trl", "transformers", "datasets", "torch")},
        **({} if num_rows is not None else {"streamed": True}),
        **({} if command is None else {"command": command}),
        "complete": False,
    }
    # Looked for before the manifest: another process may write the manifest, and then shards, at this moment.
    holds_parquet = any(folder.glob("*.parquet"))
    if not (folder / MANIFEST).exists():
        if holds_parquet:
            raise ValueError(f"{folder} holds parquet files of another origin. Use another folder, or delete them.")
        write_manifest(folder, wanted, rank)
    found = read_manifest(folder)
    # Of two streams, the digests in the shards say whether they are the same
    same_length = {"num_source_rows": found["num_source_rows"]} if found.get("streamed") and num_rows is None else {}
    old, new = flat_settings(found), flat_settings({**wanted, **same_length})
    differing = [
        f"`{key}` is {old.get(key, 'not set')} there and {new.get(key, 'not set')} here"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]
    if differing:
        raise ValueError(
            f"{folder} was made with other settings: {'; '.join(differing)}. Use another folder, or delete this one."
        )
    if found.get("versions") != wanted["versions"]:
        logger.warning("%s was begun with %s, this is %s.", folder, found.get("versions"), wanted["versions"])
    return found


def flat_settings(manifest: dict[str, Any]) -> dict[str, str]:
    """Settings by name, those of a group as `group.name`, so that a message names just what differs."""
    flat: dict[str, Any] = {
        key: manifest[key] for key in ("num_source_rows", "shard_size", "streamed") if key in manifest
    }
    for key, value in manifest["settings"].items():
        is_group = isinstance(value, dict) and value
        flat.update({f"{key}.{name}": item for name, item in value.items()} if is_group else {key: value})
    return {key: json.dumps(value, sort_keys=True) for key, value in flat.items()}


def write_manifest(folder: Path, manifest: dict[str, Any], rank: int) -> None:
    """Write the manifest of a folder in one step."""
    with replacing(folder / MANIFEST, rank) as file:
        file.write(json.dumps(manifest, indent=2).encode() + b"\n")


def installed_version(name: str) -> str | None:
    """Version of a package, `None` if it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:  # a checkout on `sys.path` that is not installed
        return None
