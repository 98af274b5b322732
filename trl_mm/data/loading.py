"""
Rows from files, the Hub or memory, in one format, all of them checked before the first training step.

A dataset holds the paths of its images or the bytes of their files. An image is decoded when its row is read.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import datasets
import pyarrow as pa
from datasets import Dataset, Features, IterableDataset

from .bad_rows import check_bad_rows_file, list_bad_rows, report_bad_rows, report_left_out
from .checked import mark_checked
from .converter_choice import choose_converter
from .converters.left_out import LeftOut
from .images import ImageError
from .reader import Converter, Row, RowReader
from .rows import PREFERENCE_COLUMNS, as_parts, has_parts, without_none
from .shown import shown_names
from .sources import BAD_ROWS, open_source
from .streaming import checked_stream
from .subset import check_subset, subset_positions
from .tables import IMAGES, raw_rows, to_table, unified_features


_BATCH = 256  # rows in memory at once, images as they are stored


def load_preferences(
    name_or_path: str | os.PathLike,
    *,
    split: str = "train",
    converter: Converter | str | None = None,
    columns: Mapping[str, str] | None = None,
    image_folder: str | os.PathLike | None = None,
    needs: Sequence[str] = PREFERENCE_COLUMNS,
    on_bad_image: str = "error",
    bad_rows_file: str | os.PathLike | None = None,
    check_images: bool = True,
    max_rows: int | None = None,
    shuffle_seed: int | None = None,
    streaming: bool = False,
    **load_dataset_kwargs: Any,
) -> Dataset | IterableDataset:
    """
    Load preference rows (with other `needs`: SFT or prompt rows) and check every one of them.

    Args:
        name_or_path (`str` or `Path`):
            A `.jsonl`, `.json` or `.parquet` file; a folder with files of one of these kinds, such as the shards that
            `trl-mm bdhs` and `trl-mm convert` write, an image folder with its metadata (`file_name` and the other
            columns), or one that `save_to_disk` wrote; or the id of a dataset on the Hub.
        split (`str`, *optional*, defaults to `"train"`):
            Split to load. In a folder: the files whose name begins with it; files without the name of any split are
            `"train"`. A file has this one split.
        converter (`Callable` or `str`, *optional*):
            Pure function from a row as stored, images not decoded, to a row of the format or a list of such rows; the
            name of one in `trl_mm.data.converters`; or `"auto"` for the one whose columns the first rows have, if
            they are not in the format. Rows that it leaves out ([`~trl_mm.data.converters.left_out.LeftOut`]), such as
            ties, are counted by their reason in a warning and listed in `bad_rows_file`.
        columns (`Mapping[str, str]`, *optional*):
            New names of columns to those that they have, such as `{"prompt": "question"}`: renamed before anything
            else.
        image_folder (`str` or `Path`, *optional*):
            Folder that relative image paths start from and none may leave. Defaults to the folder of the data, for a
            dataset of the Hub to the cache.
        needs (`Sequence[str]`, *optional*, defaults to `("images", "prompt", "chosen", "rejected")`):
            Columns that every row must have.
        on_bad_image (`str`, *optional*, defaults to `"error"`):
            What becomes of a row with a missing or undecodable image: `"error"` raises; `"skip"` leaves it out, counts
            it in a warning and lists it in `bad_rows_file`; `"keep"` keeps it, for those who only look at the data:
            the image is an error when it is decoded. Not with `streaming`.
        bad_rows_file (`str` or `Path`, *optional*):
            JSON lines with the keys `row`, `file` and `reason`. Defaults to `bad_rows.jsonl` beside the data if that
            can be written, for a dataset of the Hub to none.
        check_images (`bool`, *optional*, defaults to `True`):
            Whether to decode every image once: only this shows a truncated one. If `False`, a file need only exist.
        max_rows (`int`, *optional*):
            Use only the first rows of the source. The others are not checked, and their images not looked at. Rows
            that are left out are not replaced.
        shuffle_seed (`int`, *optional*):
            With `max_rows`, use a random subset instead, drawn with this seed, in the order of the source. Not with
            `streaming`.
        streaming (`bool`, *optional*, defaults to `False`):
            Whether to read and check rows only while iterating over them. Bad ones then show during training, and
            `bad_rows_file` is not written.
        **load_dataset_kwargs:
            Further arguments of `datasets.load_dataset`, such as `name` or `revision`.

    Returns:
        `datasets.Dataset` or, with `streaming`, `datasets.IterableDataset`:
            Rows with `images`, `prompt`, `chosen`, `rejected`, all other columns, and `row_id` (the position in the
            source, as a string, where the source has none).

    Raises:
        FileNotFoundError: there is no such file, folder or dataset.
        ValueError: a file or a row is bad. The message names file, row (counted from 0) and cure.
    """
    if streaming and on_bad_image == "keep":
        raise ValueError("`on_bad_image='keep'` needs `streaming=False`: a stream decodes its images.")
    check_subset(max_rows, shuffle_seed, streaming)
    source = open_source(name_or_path, split, streaming, load_dataset_kwargs)
    image_folder = image_folder or source.folder or datasets.config.HF_CACHE_HOME
    if streaming:
        rows = source.rows if max_rows is None else source.rows.take(max_rows)
        converter = choose_converter(converter, columns, rows, source.locate, needs)
        return checked_stream(rows, RowReader(converter, image_folder, needs, on_bad_image, source.locate))
    if bad_rows_file is None and source.folder is not None and os.access(source.folder, os.W_OK):
        bad_rows_file = source.folder / BAD_ROWS
    return prepare_preferences(
        source.rows,
        converter=converter,
        columns=columns,
        image_folder=image_folder,
        needs=needs,
        on_bad_image=on_bad_image,
        bad_rows_file=bad_rows_file,
        check_images=check_images,
        max_rows=max_rows,
        shuffle_seed=shuffle_seed,
        locate=source.locate,
    )


def prepare_preferences(
    rows: Dataset | Sequence[Row],
    *,
    converter: Converter | str | None = None,
    columns: Mapping[str, str] | None = None,
    image_folder: str | os.PathLike | None = None,
    needs: Sequence[str] = PREFERENCE_COLUMNS,
    on_bad_image: str = "error",
    bad_rows_file: str | os.PathLike | None = None,
    check_images: bool = True,
    max_rows: int | None = None,
    shuffle_seed: int | None = None,
    locate: Callable[[int], tuple[str, int]] | None = None,
) -> Dataset:
    """
    Normalise and check rows that are already read. [`load_preferences`] is this after reading files.

    Args:
        rows (`datasets.Dataset` or `Sequence[dict[str, Any]]`):
            Rows, `images` being paths, bytes or PIL images. A dataset that is in the format already is not copied.
        converter, columns, image_folder, needs, on_bad_image, bad_rows_file, check_images, max_rows, shuffle_seed:
            As in [`load_preferences`], except that without an `image_folder` any path is allowed, and without a
            `bad_rows_file` none is written.
        locate (`Callable`, *optional*):
            From the index of a row to its file and its position there, for messages.

    Returns:
        `datasets.Dataset`:
            As in [`load_preferences`].

    Raises:
        ValueError: a row is bad, or none is left.
    """
    if isinstance(rows, Mapping):
        raise ValueError(f"The dataset has several splits: {shown_names(rows)}. Pass one, such as `data['train']`.")
    converter = choose_converter(converter, columns, rows, locate or _in_memory, needs)
    if on_bad_image == "skip" or converter is not None:
        check_bad_rows_file(bad_rows_file)
    reader = RowReader(converter, image_folder, needs, on_bad_image, locate or _in_memory)
    positions = subset_positions(len(rows), max_rows, shuffle_seed)
    if len(positions) < len(rows):
        rows = rows.select(positions) if isinstance(rows, Dataset) else [rows[position] for position in positions]
    dataset = _checked(rows, reader, positions, check_images, bad_rows_file)
    if on_bad_image != "keep":
        mark_checked(dataset, needs, check_images)
    return dataset


def _checked(
    rows: Dataset | Sequence[Row],
    reader: RowReader,
    positions: Sequence[int],
    check_images: bool,
    bad_rows_file: str | os.PathLike | None,
) -> Dataset:
    # A function set by `set_transform` is part of the data, so such rows are taken one by one.
    stored = isinstance(rows, Dataset) and rows.format["type"] != "custom"
    features = rows.features if stored else {}
    unchanged, parts = features.get("images") == IMAGES, False
    cleaned, bad, left_out = [], {}, {}
    for index, before, made in _read_all(rows, reader, positions, stored, check_images):
        if isinstance(made, Exception):
            file, position = reader.locate(positions[index])
            kind = left_out if isinstance(made, LeftOut) else bad
            kind[index] = {"row": position, "file": file, "reason": str(made)}
            continue
        parts = parts or any(map(has_parts, made))
        unchanged = unchanged and len(made) == 1 and without_none(made[0]) == without_none(before)
        if not stored:
            cleaned += made
    gone = {**bad, **left_out}
    listed = [gone[index] for index in sorted(gone)]
    if reader.on_bad_image == "skip" or (reader.converter is not None and reader.on_bad_image != "keep"):
        list_bad_rows(listed, bad_rows_file)
    report_bad_rows([*bad.values()], len(rows), bad_rows_file)
    report_left_out([*left_out.values()], len(rows), bad_rows_file)
    if len(gone) == len(rows):
        first = f" The first: {listed[0]['reason']}" if listed else ""
        file, _ = reader.locate(next(iter(positions), 0))
        raise ValueError(f"{file or 'The dataset'} has no rows left of {len(rows)}. Check the data.{first}")
    if unchanged:
        return rows.select([index for index in range(len(rows)) if index not in gone]) if gone else rows
    if not stored:
        cleaned = [as_parts(row) for row in cleaned] if parts else cleaned
        batches = [cleaned[b.start : b.stop] for b in _batches(len(cleaned))]
        target = unified_features(to_table(batch).schema for batch in batches)
        return Dataset(pa.concat_tables([to_table(batch, target) for batch in batches]))
    # Into a file in the cache of `datasets`: the images of all rows may be more than the memory.
    table, reader = rows.with_format("arrow"), replace(reader, locate=_in_memory)
    convert = partial(
        _converted, positions=positions, reader=reader, stored=features, gone=frozenset(gone), parts=parts
    )
    target = unified_features(convert(table[b.start : b.stop], b).schema for b in _batches(len(rows)))
    return table.map(
        partial(convert, target=target),
        batched=True,
        batch_size=_BATCH,
        writer_batch_size=_BATCH,
        with_indices=True,
        remove_columns=rows.column_names,
        features=target,
        desc="Normalising rows",
    ).with_format(None)


def _read_all(
    rows: Dataset | Sequence[Row], reader: RowReader, positions: Sequence[int], stored: bool, check_images: bool
) -> Iterator[tuple[int, Row, list[Row] | ImageError | LeftOut]]:
    """Index of each row, the row as it is stored, and what is read from it, or why there is nothing."""
    table = rows.with_format("arrow") if stored else None
    decoded = set() if check_images else None
    progress = datasets.utils.tqdm(total=len(rows), desc="Checking rows", unit=" rows")
    with progress, ThreadPoolExecutor() as pool:
        for batch in _batches(len(rows)):
            raw = raw_rows(table[batch.start : batch.stop], rows.features) if stored else [rows[i] for i in batch]
            tasks = [pool.submit(reader.read, row, positions[i], decoded) for row, i in zip(raw, batch, strict=True)]
            for index, before, task in zip(batch, raw, tasks, strict=True):
                try:
                    made = task.result()
                except LeftOut as reason:
                    made = reason
                except ImageError as error:
                    if reader.on_bad_image == "error":
                        raise
                    made = error
                yield index, before, made
            progress.update(len(batch))


def _in_memory(index: int) -> tuple[str, int]:
    return "", index


def _batches(num_rows: int) -> Iterator[range]:
    for start in range(0, num_rows, _BATCH):
        yield range(start, min(start + _BATCH, num_rows))


def _converted(
    table: pa.Table,
    indices: Sequence[int],
    positions: Sequence[int],
    reader: RowReader,
    stored: Features,
    gone: set[int],
    parts: bool,
    target: Features | None = None,
) -> pa.Table:
    pairs = zip(raw_rows(table, stored), indices, strict=True)
    rows = [made for row, index in pairs if index not in gone for made in reader.read(row, positions[index])]
    return to_table([as_parts(row) for row in rows] if parts else rows, target)
