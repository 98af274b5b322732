"""Corruption of a whole dataset: shards from which a killed run resumes."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datasets import Dataset
from tqdm.auto import tqdm

from ..bdhs.dataset import check_image_paths
from ..data.atomic_file import replacing
from ..data.fingerprints import rows_digest
from ..data.shards import read_left_out, write_shards
from ..data.sources import BAD_ROWS
from ..data.tables import undecoded
from .sampler import CorruptionSampler
from .wording import request


def corrupt_dataset(
    sampler: CorruptionSampler,
    dataset: Dataset,
    folder: str | Path,
    source: Mapping[str, Any],
    *,
    images: str = "embed",
    image_folder: str | Path | None = None,
    shard_size: int = 256,
    rank: int = 0,
    world_size: int = 1,
    command: str | None = None,
) -> dict[str, Any] | None:
    """
    Write the preference rows of a dataset to parquet shards. Rows that got no rejected answer are listed with the
    reason in `bad_rows.jsonl` there.

    Args:
        sampler ([`CorruptionSampler`]): the sampler.
        dataset (`datasets.Dataset`): SFT rows.
        folder (`str` or `Path`): folder of the shards; a killed run's folder is resumed.
        source (`dict`): what else determines the pairs (model, ...), for the manifest.
        images, image_folder, shard_size, rank, world_size, command: as in [`make_pairs`].

    Returns:
        `dict` or `None`: the manifest when all shards of all processes are there.

    Raises:
        ValueError: the folder was made with other settings or from other rows.
        JudgeUnavailable: the endpoint cannot answer now. Finished shards and replies stay.
    """
    check_image_paths(dataset, images, image_folder)
    stored = undecoded(dataset)
    shards = range(rank, -(-len(dataset) // shard_size), world_size)
    sizes = {shard: min(shard_size, len(dataset) - shard * shard_size) for shard in shards}
    name = source.get("model")

    def transform(rows):
        pairs, left_out = sampler(rows)
        return [{**pair, "rejected_model": name} for pair in pairs], left_out

    wording = hashlib.sha256(request("", "").encode()).hexdigest()
    with tqdm(total=sum(sizes.values()), desc="corrupt", unit="row", disable=rank != 0) as bar:
        manifest = write_shards(
            folder,
            stored,
            transform,
            {
                "corruption": sampler.config.as_settings(),
                "wording": wording,
                "rows": rows_digest(stored),
                "images": images,
                **source,
            },
            shard_size=shard_size,
            rank=rank,
            world_size=world_size,
            on_shard=lambda shard, num_rows: bar.update(sizes[shard]),
            command=command,
            image_folder=image_folder if images == "path" else None,
        )
    if manifest is not None and (left_out := read_left_out(folder)):
        with replacing(Path(folder) / BAD_ROWS, rank) as file:
            file.write("".join(json.dumps(row) + "\n" for row in left_out).encode())
    return manifest
