"""The folder that a conversion writes: shards, manifest, list of bad rows, and a card that says what they hold."""

import json
import os
import shutil
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

from .atomic_file import replacing
from .bad_rows import check_bad_rows_file, counted
from .conversion import ConvertedRows
from .conversion_tally import Tally, kind_of
from .dataset_card import make_folder_card
from .held_out import SIDES
from .manifest import MANIFEST, write_manifest
from .shards import read_left_out, write_shards
from .sources import BAD_ROWS
from .streaming import items_digest


CARD = "README.md"


def write_converted(
    rows: ConvertedRows,
    folder: str | os.PathLike,
    settings: dict[str, Any],
    *,
    shard_size: int = 256,
    command: str | None = None,
    license: str = "unknown",
) -> dict[str, Any]:
    """
    Write the rows of a conversion to parquet shards, with manifest, `bad_rows.jsonl` and card.

    Args:
        rows ([`ConvertedRows`]):
            The rows. With `test_share`, those to train on go to the folder `train` and the others to `test`, and the
            source is read once for each.
        folder (`str` or `Path`):
            Folder for it all; one of a killed run is resumed.
        settings (`dict[str, Any]`):
            All that determines the rows, as JSON values.
        shard_size (`int`, *optional*, defaults to `256`):
            Rows of a shard, which are in memory together.
        command (`str`, *optional*):
            Command that does it, for the manifest and the card.
        license (`str`, *optional*, defaults to `"unknown"`):
            Identifier of the licence, for the card.

    Returns:
        `dict[str, Any]`:
            Counts of rows, as [`Tally.as_dict`] gives them.

    Raises:
        ValueError: no row is left, the folder was made with other settings or from other rows, or rows are bad and
            `strict` is set.
    """
    folder = Path(folder)
    check_bad_rows_file(folder / BAD_ROWS)
    sides = SIDES if rows.test_share is not None else (None,)
    if (folder / CARD).exists() and not any((folder / (side or "") / MANIFEST).exists() for side in sides):
        raise ValueError(f"{folder} holds a {CARD} of another origin. Use another folder, or delete it.")
    manifests, undecodable, safety = {}, [], 0
    for side in sides:
        rows.side = side
        of_side = folder if side is None else folder / side
        manifest = write_shards(
            of_side,
            rows,
            rows.checked,
            settings if side is None else {**settings, "side": side},
            shard_size=shard_size,
            command=command,
            digest=partial(items_digest, digests={}),
            mixed_as_text=True,
        )
        assert manifest is not None  # there is one process
        manifests[of_side] = manifest
        undecodable += read_left_out(of_side)
        safety += rows.tally.safety
    written = {name or "train": manifest["num_rows"] for name, manifest in zip(sides, manifests.values(), strict=True)}
    summary = {**summarise(rows.tally, undecodable, written), "safety": safety}
    _append(folder / BAD_ROWS, undecodable)
    if not sum(written.values()):
        first = rows.tally.first or next((row["reason"] for row in undecodable), "")
        more = f" The first: {first.rstrip('.')}. All are in {folder / BAD_ROWS}." if first else ""
        raise ValueError(f"No row is left of {rows.tally.read:,}: {_why(summary)}.{more}")
    for of_side, manifest in manifests.items():
        write_manifest(of_side, {**manifest, "summary": summary}, 0)
    with replacing(folder / CARD, 0) as file:
        card = make_folder_card(
            [*manifests], names=[name for name in sides if name], title=folder.resolve().name, license=license
        )
        file.write(str(card).encode(errors="replace"))
    return summary


def summarise(tally: Tally, undecodable: list[dict[str, Any]], written: dict[str, int]) -> dict[str, Any]:
    """Counts of a pass, images that cannot be decoded included."""
    bad = Counter(tally.bad)
    bad.update(kind_of(row["reason"]) for row in undecodable)
    return {**tally.as_dict(written), "bad": dict(bad.most_common())}


def _why(summary: dict[str, Any]) -> str:
    reasons = {**summary["left_out"], **summary["not_wanted"], **summary["bad"]}
    cure = "; pass the folder of the images as `image_folder`" if summary["images_missing"] else ""
    return f"{counted(reasons)}{cure}" if reasons else "the source is empty"


def _append(file: Path, rows: list[dict[str, Any]]) -> None:
    if rows:
        with open(file, "rb") as before, replacing(file, os.getpid()) as after:
            shutil.copyfileobj(before, after)
            after.write("".join(json.dumps(row) + "\n" for row in rows).encode())
