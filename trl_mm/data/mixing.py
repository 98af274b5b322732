"""Several datasets as one: a share of the rows of each, in a common order, with common features."""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import pyarrow as pa
from datasets import Dataset, Features, Value, concatenate_datasets

from .rows import as_parts
from .seeds import derived_seed
from .subset import MOST_COPIES, check_weight, subset_positions
from .tables import mixed_messages, raw_rows, to_table, unified_features


PART = "mixture_part"  # column with the name of the dataset that a row is from
_BATCH = 256  # rows in memory at once, images as they are stored


def mix_datasets(
    parts: Mapping[str, Dataset],
    weights: Mapping[str, float] | None = None,
    seeds: Mapping[str, int] | None = None,
    seed: int = 0,
) -> Dataset:
    """
    One dataset of several that [`load_preferences`] has read. What is drawn and in which order depends on names,
    positions and seeds alone, so it is the same in every process.

    Args:
        parts (`Mapping[str, datasets.Dataset]`):
            Datasets by name. The name goes before each `row_id`, so that ids stay different, and into `source` where a
            row says nothing there, and into `mixture_part`.
        weights (`Mapping[str, float]`, *optional*):
            By name, the share of the rows that is drawn, without replacement; above 1 rows are repeated, under ids of
            their own: with 2.5 all are there twice, and half of them a third time. Defaults to 1 for each.
        seeds (`Mapping[str, int]`, *optional*):
            By name, the seed of what is drawn. Defaults to `seed`.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the order.

    Returns:
        `datasets.Dataset`:
            The rows. A column that one of the datasets lacks is `None` in its rows; one whose types do not go together
            is text; messages are lists of parts if those of any dataset are.

    Raises:
        ValueError: a weight makes no sense, or messages of the datasets do not go together.
    """
    drawn = []
    for name, dataset in parts.items():
        weight = (weights or {}).get(name, 1.0)
        drawn += drawn_copies(name, dataset, weight, (seeds or {}).get(name, seed))
    rows = concatenate_datasets(with_common_features(drawn))
    return rows.select(sorted(range(len(rows)), key=lambda position: derived_seed("mixture", seed, position)))


def drawn_copies(name: str, dataset: Dataset, weight: float, seed: int) -> list[Dataset]:
    """The rows of a dataset as often as its weight says, none of them copied; see [`mix_datasets`]."""
    check_weight(weight)
    copies: list[Dataset] = []
    for copy in range(MOST_COPIES):
        count = min(round((weight - copy) * len(dataset)), len(dataset))
        if count <= 0 and copies:
            break
        rows = _named(dataset, name, copy)
        positions = subset_positions(len(rows), max(count, 1), seed)
        copies.append(rows if len(positions) == len(rows) else rows.select(positions))
    return copies


def with_common_features(datasets: Iterable[Dataset]) -> list[Dataset]:
    """Datasets whose columns go together. One that has them as the others do is not copied."""
    datasets = list(datasets)
    schemas = [dataset.features.arrow_schema for dataset in datasets]
    target, parts = unified_features(schemas, mixed_as_text=True), mixed_messages(schemas)
    types = {field.name: field.type for field in target.arrow_schema}
    return [
        dataset
        if all(types[field.name] == field.type for field in schema)
        else dataset.with_format("arrow")
        .map(
            partial(_rewritten, stored=dataset.features, target=target, parts=parts),
            batched=True,
            batch_size=_BATCH,
            writer_batch_size=_BATCH,
            remove_columns=dataset.column_names,
            features=target,
            desc="Unifying columns",
        )
        .with_format(None)
        for dataset, schema in zip(datasets, schemas, strict=True)
    ]


def _rewritten(table: pa.Table, stored: Features, target: Features, parts: list[str]) -> pa.Table:
    return to_table([as_parts(row, parts) for row in raw_rows(table, stored)], target, mixed_as_text=True)


def _named(dataset: Dataset, name: str, copy: int) -> Dataset:
    """The dataset with the name in `row_id` and, where nothing is said there, in `source`."""
    ending = f":{copy}" if copy else ""
    new: dict[str, list[Any]] = {"row_id": [f"{name}:{row_id}{ending}" for row_id in dataset["row_id"]]}
    new[PART] = [name] * len(dataset)
    if "source" not in dataset.column_names:
        new["source"] = [name] * len(dataset)
    elif dataset.features["source"] in (Value("string"), Value("null")):
        new["source"] = [name if source is None else source for source in dataset["source"]]
    dataset = dataset.remove_columns([column for column in new if column in dataset.column_names])
    for column, values in new.items():
        dataset = dataset.add_column(column, values)
    return dataset
