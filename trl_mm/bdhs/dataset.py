"""BDHS over a whole dataset: shards from which a killed run resumes. The command and the callback both call this."""

import json
import time
from itertools import islice
from pathlib import Path

from datasets import Dataset, Image, IterableDataset, List

from ..data.atomic_file import replacing
from ..data.fingerprints import rows_digest
from ..data.images import relative_image, with_open_images
from ..data.loading import check_bad_rows_file
from ..data.shards import read_left_out, write_shards
from ..data.sources import BAD_ROWS
from ..data.streaming import as_stream
from ..data.tables import undecoded
from .progress import Progress
from .sampler import NEEDS


STORAGE = ("embed", "path")


def make_pairs(
    model,
    sampler,
    dataset,
    folder,
    source,
    *,
    images="embed",
    image_folder=None,
    shard_size=256,
    rank=0,
    world_size=1,
    command=None,
):
    """
    Write the preference rows of a dataset to parquet shards.

    Args:
        model ([`~transformers.PreTrainedModel`]): the model, unwrapped.
        sampler ([`BDHSSampler`]): the sampler.
        dataset (`datasets.Dataset`, [`RowStream`] or `datasets.IterableDataset`): SFT rows. Those of a stream
            ([`stream_preferences`]) are read, checked and decoded as they come, by every process from the beginning;
            only the images of its own shards that are not finished are decoded. An iterable dataset, too, is in the
            row format; its images are stored as PNG.
        folder (`str` or `Path`): folder of the shards; a killed run's folder is resumed. Rows of a
            stream that are left out because of their images are listed in `bad_rows.jsonl` there.
        source (`dict`): what else determines the pairs (model, ...), for the manifest.
        images (`str`, *optional*, defaults to `"embed"`): `"embed"` stores the bytes of image files in the shards,
            `"path"` their paths relative to `image_folder`, which [`load_preferences`] then needs.
        image_folder (`str` or `Path`, *optional*): with `images="path"`, folder that all images are in.
        shard_size (`int`, *optional*, defaults to `256`): source rows per shard.
        rank (`int`, *optional*, defaults to `0`): this process.
        world_size (`int`, *optional*, defaults to `1`): number of processes.
        command (`str`, *optional*): command that makes the pairs, for the manifest.

    Returns:
        `dict` or `None`: the manifest when all shards of all processes are there.

    Raises:
        ValueError: the folder was made with other settings or from other rows, a row of a stream is bad, or an image
            cannot be referred to by path.
    """
    check_image_paths(dataset, images, image_folder)
    is_stream = not isinstance(dataset, Dataset)
    if isinstance(dataset, IterableDataset):
        dataset = as_stream(dataset, NEEDS)
    if is_stream:
        check_bad_rows_file(Path(folder) / BAD_ROWS)
    stored = dataset if is_stream else undecoded(dataset)
    progress = Progress(dataset.max_rows if is_stream else len(dataset), shard_size, rank, world_size)

    def transform(rows):
        if is_stream:
            rows, decoded, left_out = dataset.decode(rows)
        else:
            decoded = [with_open_images(row) for row in rows]
            left_out = []
        start = time.perf_counter()
        pairs = sampler(model, decoded) if decoded else []
        progress.count(pairs, time.perf_counter() - start)
        return [{**pair, "images": row["images"]} for pair, row in zip(pairs, rows, strict=True)], left_out

    rows = "streamed, a digest in each shard" if is_stream else rows_digest(stored)
    with progress:
        manifest = write_shards(
            folder,
            progress.counted(stored) if is_stream else stored,
            transform,
            {"bdhs": sampler.config.as_settings(), "rows": rows, "images": images, **source},
            shard_size=shard_size,
            rank=rank,
            world_size=world_size,
            on_shard=progress.on_shard,
            command=command,
            digest=dataset.digest if is_stream else None,
            image_folder=image_folder if images == "path" else None,
        )
    if is_stream and manifest is not None and (left_out := read_left_out(folder)):
        with replacing(Path(folder) / BAD_ROWS, rank) as file:
            file.write("".join(json.dumps(row) + "\n" for row in left_out).encode())
    return manifest


def check_image_paths(dataset, images, image_folder):
    """
    Find out whether [`make_pairs`] can refer to the images of a dataset by path, before anything long begins.

    Args:
        dataset, images, image_folder: as in [`make_pairs`]. Of a stream, only the first rows are looked at.

    Raises:
        ValueError: `images` is unknown, or an image is no file in `image_folder`.
    """
    if images not in STORAGE:
        raise ValueError(f"`images` must be one of {', '.join(STORAGE)}, got {images!r}.")
    if images == "embed":
        return
    if image_folder is None:
        raise ValueError(
            "`images='path'` needs `image_folder`, the local folder that all images are in. Pass it, or store images "
            "with `images='embed'` (`--images embed`)."
        )
    if isinstance(dataset, Dataset):
        rows = dataset.select_columns(["row_id", "images"]).cast_column("images", List(Image(decode=False)))
    else:
        stream = as_stream(dataset, NEEDS) if isinstance(dataset, IterableDataset) else dataset
        rows = (item.row for item in islice(stream, 16) if item.row)
    for row in rows:
        for image in row["images"]:
            try:
                relative_image(image, image_folder)
            except ValueError as error:
                raise ValueError(f"`images='path'`, row {row['row_id']}: {error}") from error
