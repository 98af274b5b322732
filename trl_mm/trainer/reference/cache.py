"""Reference log-probabilities of a dataset, computed once and kept on disk.

What is unusual in it: all processes compute each batch together, every one its share, because under ZeRO-3 a forward
is a collective operation. Process 0 alone touches the cache; it decides what is missing and tells the others which
rows come next.
"""

import hashlib
import json
import logging
import os
import shutil
import time
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from accelerate.utils import broadcast_object_list
from datasets import Dataset, concatenate_datasets
from filelock import FileLock, Timeout
from tqdm.auto import tqdm

from ...data.manifest import read_manifest
from ...data.shards import write_shards
from ...data.tables import image_counts
from ...tokens.collator import REF_LOG_PROBS


logger = logging.getLogger(__name__)

SHARD_SIZE = 512  # rows between two moments from which a killed run resumes


def cached_log_probs(dataset, key, parent, log_probs, *, lengths, batch_size, accelerator, name="train"):
    """
    Take reference log-probabilities from the cache, after computing those it lacks. All processes must call this.

    Args:
        dataset (`datasets.Dataset`): preference rows.
        key (`dict`): all that the values depend on, as JSON values. That of process 0 counts.
        parent (`str` or `Path`): folder with one folder of values per key.
        log_probs (`Callable`): function from batches of row numbers (`list[list[int]]`) to an iterator over their
            log-probabilities of chosen and rejected answers, two tensors of shape `(batch_size,)`.
        lengths (`numpy.ndarray` of shape `(num_rows,)`): tokens of each row.
        batch_size (`int`): rows per batch and process.
        accelerator ([`~accelerate.Accelerator`]): the processes.
        name (`str`, *optional*, defaults to `"train"`): name of the dataset, for messages.

    Returns:
        `numpy.ndarray` of shape `(num_rows, 2)`: chosen and rejected, float32.

    Raises:
        ValueError: a log-probability is not finite. Nothing is kept of the shard that it is in.
    """
    key = _broadcast(json.loads(json.dumps(key)))
    folder = Path(parent) / hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
    main = accelerator.is_main_process
    with _alone(folder, main):
        values = _broadcast(_read(folder, len(dataset)) if main else None)
        if values is not None:
            logger.info("Reference log-probabilities of the %s dataset are taken from %s.", name, folder)
            return values
        # By every process, so that none waits for another in a collective operation that times out
        order = longest_first(dataset, lengths)
        progress = tqdm(
            total=len(dataset),
            desc=f"Reference log-probabilities ({name})",
            unit=" pairs",
            disable=bool(os.environ.get("TQDM_DISABLE")) or not main,
        )
        start, computed, finished = time.perf_counter(), 0, 0

        def compute(rows):
            nonlocal computed
            batches = list(_shares(rows, batch_size, accelerator.process_index, accelerator.num_processes))
            results = []
            for (numbers, _), pair in zip(batches, log_probs([share for _, share in batches]), strict=True):
                found = accelerator.gather(torch.stack(tuple(pair), dim=1).float())[: len(numbers)].cpu()  # (B, 2)
                _check_finite(found, numbers, dataset, name)
                results += [
                    dict(zip(("row", *REF_LOG_PROBS), line, strict=True))
                    for line in zip(numbers, *found.T.tolist(), strict=True)
                ]
                computed += len(numbers)
                progress.update(len(numbers))
            return results

        def lead(rows):
            _broadcast(rows)
            return compute(rows)

        def on_shard(_, count):
            nonlocal finished
            finished += count
            progress.update(finished - progress.n)  # what an earlier run has finished

        with progress:
            if main:
                settings = {**key, "order": hashlib.sha256(order.data.column("row").to_numpy()).hexdigest()}
                _discard_unusable(folder, settings)
                _say_what_differs(folder, key)
                write_shards(folder, order, lead, settings, shard_size=SHARD_SIZE, on_shard=on_shard)
                values = _read(folder, len(dataset))
                if values is None:
                    raise OSError(f"What was written to {folder} cannot be read back. Check the disk.")
                _broadcast(None)
            else:
                while (rows := _broadcast(None)) is not None:
                    compute(rows)
        seconds = time.perf_counter() - start
        logger.info(
            "Reference log-probabilities of %d of %d %s rows were computed in %.1f s (%.2f pairs/s) and kept in %s.",
            computed, len(dataset), name, seconds, computed / seconds, folder,
        )  # fmt: skip
        return _broadcast(values)


def longest_first(dataset, lengths):
    """
    Order in which little is padded and a lack of memory shows at once. Rows without images come last, as under ZeRO-3
    no batch may have images on some of the processes only.

    Args:
        dataset (`datasets.Dataset`): preference rows.
        lengths (`numpy.ndarray` of shape `(num_rows,)`): tokens of each row.

    Returns:
        `datasets.Dataset`: `row` (number of the row) and `has_images`.
    """
    has_images = image_counts(dataset) > 0
    order = np.lexsort((-lengths, ~has_images))
    return Dataset.from_dict({"row": order, "has_images": has_images[order]})


def with_log_probs(dataset, values):
    """
    Dataset with the columns `ref_chosen_logps` and `ref_rejected_logps`.

    Args:
        dataset (`datasets.Dataset`): rows.
        values (`numpy.ndarray` of shape `(num_rows, 2)`): chosen and rejected.
    """
    dataset = dataset.remove_columns([name for name in REF_LOG_PROBS if name in dataset.column_names])
    taken = None if dataset._indices is None else dataset._indices.column(0).to_numpy()
    if taken is not None:
        # Beside all rows that are stored: `datasets` would copy those that are selected, images included
        stored = np.full((len(dataset.data), 2), np.nan, dtype=np.float32)
        stored[taken] = values
        selected, dataset, values = dataset, Dataset(dataset.data, info=dataset.info, split=dataset.split), stored
    columns = Dataset.from_dict(dict(zip(REF_LOG_PROBS, values.T, strict=True)))
    result = concatenate_datasets([dataset, columns], axis=1)
    return result if taken is None else result.select(taken).with_format(selected.format["type"])


def _shares(rows, batch_size, rank, world_size):
    """Batches of all processes, each with the share of this one; the last row fills up, so that shares are equal."""
    for _, group in groupby(rows, key=lambda row: row["has_images"]):
        numbers = [row["row"] for row in group]
        for start in range(0, len(numbers), batch_size * world_size):
            batch = numbers[start : start + batch_size * world_size]
            share = -(-len(batch) // world_size)
            filled = batch + batch[-1:] * (share * world_size - len(batch))
            yield batch, filled[rank * share : (rank + 1) * share]


def _check_finite(found, numbers, dataset, name):
    bad = (~found.isfinite()).nonzero().tolist()
    if bad:
        place, answer = bad[0]
        row_id = dataset["row_id"][numbers[place]] if "row_id" in dataset.column_names else None
        raise ValueError(
            f"Row {numbers[place]} (`row_id` {row_id!r}) of the {name} dataset has a reference log-probability of "
            f"{found[place, answer].item()} for its {('chosen', 'rejected')[answer]} answer. Remove the row, or, if "
            "there are many, check the weights of the reference and use bf16 or float32 instead of fp16."
        )


def _read(folder, num_rows):
    """Values of shape `(num_rows, 2)` if all are there and intact, else `None`."""
    values = np.full((num_rows, 2), np.nan, dtype=np.float32)
    try:
        manifest = read_manifest(folder)
        if not manifest["complete"]:
            return None
        for file in manifest["shards"]:
            table = pq.read_table(folder / file, page_checksum_verification=True)
            values[table["row"].to_numpy()] = np.stack([table[name].to_numpy() for name in REF_LOG_PROBS], axis=1)
    except (OSError, ValueError, LookupError, pa.ArrowException):
        return None
    return None if np.isnan(values).any() else values


def _discard_unusable(folder, settings):
    """Remove what [`write_shards`] would refuse to resume; everything in this folder can be computed again."""
    if not folder.exists():
        return
    try:
        manifest = read_manifest(folder)
        if manifest["settings"] == settings and manifest["shard_size"] == SHARD_SIZE:
            return
        reason = "it was begun by another version of trl_mm"
    except (OSError, ValueError) as error:
        reason = error
    logger.warning("Reference log-probabilities in %s are computed again: %s", folder, reason)
    shutil.rmtree(folder)


def _say_what_differs(folder, key):
    differing = []
    for other in folder.parent.glob("*/manifest.json"):
        try:
            settings = read_manifest(other.parent)["settings"]
        except (OSError, ValueError):
            continue
        if other.parent != folder:
            differing.append((sorted(part for part in key if settings.get(part) != key[part]), other.parent))
    if differing:
        parts, nearest = min(differing, key=lambda item: len(item[0]))
        logger.info("%s cannot be used for these rows: it differs in %s.", nearest, ", ".join(parts))


@contextmanager
def _alone(folder, main):
    """One run at a time writes to a folder: a sweep starts several that need the same values, and the others wait."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{folder}.lock")

    def acquired():
        try:
            lock.acquire(timeout=10)
        except Timeout:
            logger.info("Another run computes the reference log-probabilities in %s; this one waits for it.", folder)
            return False
        return True

    # Asked again and again, as a collective operation would time out
    while not _broadcast(acquired() if main else None):
        pass
    try:
        yield
    finally:
        lock.release()


def _broadcast(value):
    values = [value]
    broadcast_object_list(values)
    return values[0]
