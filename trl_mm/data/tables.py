"""Rows to Arrow tables and back. Images stay as they are stored: here they are neither decoded nor encoded."""

import json
from collections.abc import Iterable
from copy import copy
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Audio, Dataset, Features, Image, List, Pdf, Video

from .shown import shown


IMAGES = List(Image())
_FILES = (Image, Audio, Video, Pdf)
_OF_THE_FORMAT = ("images", "prompt", "chosen", "rejected", "second_rejected", "row_id")
_CURE = "Give it one type in all rows, or remove it."


def raw_rows(table: pa.Table, features: Features) -> list[dict[str, Any]]:
    """
    Rows of a table as `datasets` would give them, except that images stay `{"bytes", "path"}`.

    Args:
        table (`pyarrow.Table`):
            Rows of a dataset, from `dataset.with_format("arrow")[start:stop]`.
        features (`datasets.Features`):
            Features of that dataset.

    Returns:
        `list[dict[str, Any]]`:
            One dictionary per row.
    """
    stored = Features({name: _undecoded(feature) for name, feature in features.items()})
    columns = stored.decode_batch(table.to_pydict())
    return [{name: values[index] for name, values in columns.items()} for index in range(len(table))]


def to_table(rows: list[dict[str, Any]], features: Features | None = None, mixed_as_text: bool = False) -> pa.Table:
    """
    Store rows as a table from which `datasets.Dataset` takes its features.

    Args:
        rows (`list[dict[str, Any]]`):
            Rows whose `images`, if any, are `{"bytes", "path"}`. A column that a row lacks is `None` in it.
        features (`datasets.Features`, *optional*):
            Features of the table. Inferred from `rows` by default, apart from `images`, a list of images.
        mixed_as_text (`bool`, *optional*, defaults to `False`):
            Whether values of a column that mixes types are stored as text, those that are none as JSON.

    Returns:
        `pyarrow.Table`:
            Table with the features in its metadata.

    Raises:
        ValueError: a column mixes types.
    """
    known = Features(images=IMAGES) if features is None else features
    types = {field.name: field.type for field in known.arrow_schema}
    names = dict.fromkeys(name for row in rows for name in row) if features is None else features
    columns = {}
    for name in names:
        values = [row.get(name) for row in rows]
        try:
            columns[name] = _array(values, types.get(name), mixed_as_text and name not in _OF_THE_FORMAT)
        except (pa.ArrowException, UnicodeEncodeError, OverflowError) as error:
            raise ValueError(f"Column `{shown(name)}` cannot be stored: {shown(str(error), 500)}. {_CURE}") from error
    table = pa.table(columns)
    return table.replace_schema_metadata((features or unified_features([table.schema])).arrow_schema.metadata)


def unified_features(schemas: Iterable[pa.Schema], mixed_as_text: bool = False) -> Features:
    """
    Features that rows of all these schemas fit in: a column that is always `None` in one of them takes the type that
    it has in another, and messages of texts become messages of parts ([`mixed_messages`]).

    Args:
        schemas (`Iterable[pyarrow.Schema]`):
            Schemas of tables from [`to_table`].
        mixed_as_text (`bool`, *optional*, defaults to `False`):
            Whether a column becomes text where its types do not go together; see [`to_table`].

    Returns:
        `datasets.Features`:
            Union of the columns; `images` is a list of images.

    Raises:
        ValueError: a column has types that do not go together, such as text and numbers.
    """
    schemas = [schema.remove_metadata() for schema in schemas]
    mixed = mixed_messages(schemas)
    if mixed_as_text:
        schemas = _with_texts(schemas)
    try:
        # The empty schema stands for no rows at all.
        schema = pa.unify_schemas(
            [pa.schema([]), *(_without_texts(schema, mixed) for schema in schemas)], promote_options="permissive"
        )
    except pa.ArrowException as error:
        raise ValueError(f"Rows differ in the type of a column: {shown(str(error), 500)}. {_CURE}") from error
    features = Features.from_arrow_schema(schema)
    if "images" in features:
        features["images"] = IMAGES
    return features


def mixed_messages(schemas: Iterable[pa.Schema]) -> list[str]:
    """
    Columns of messages whose contents are texts in some schemas and lists of parts in others.

    Args:
        schemas (`Iterable[pyarrow.Schema]`):
            Schemas of tables from [`to_table`].

    Returns:
        `list[str]`:
            Their names; with [`~trl_mm.data.rows.as_parts`], the rows with texts fit in with the others.
    """
    kinds: dict[str, set[bool]] = {}
    for schema in schemas:
        for field in schema:
            content = _content(field.type)
            if content is not None and not pa.types.is_null(content):
                kinds.setdefault(field.name, set()).add(pa.types.is_string(content))
    return [name for name, are_texts in kinds.items() if len(are_texts) > 1]


def image_counts(dataset: Dataset) -> np.ndarray:
    """Number of images of each row, shape `(num_rows,)`, without reading them."""
    table = dataset.select_columns("images").with_format("arrow")
    counts = pa.compute.list_value_length
    return np.concatenate([[], *(counts(batch["images"]) for batch in table.iter(1000))])


def check_some_images(dataset: Dataset, name: str) -> None:
    """Raise a `ValueError` if no row has an image; `name` is that of the dataset."""
    if not image_counts(dataset).any():
        raise ValueError(
            f"None of the {len(dataset)} rows of {name} has an image: their `images` are empty lists. Check how they "
            "were made; for text alone use TRL."
        )


def undecoded(dataset: Dataset) -> Dataset:
    """
    The dataset with images, and other files in any column, as they are stored when a row is read: `datasets` would
    open them in every format that PIL knows, and raise what PIL raises. No row is copied.
    """
    for name, feature in dataset.features.items():
        stored = _undecoded(feature)
        if stored != feature:
            dataset = dataset.cast_column(name, stored)
    return dataset


def _content(type: pa.DataType) -> pa.DataType | None:
    """Type of the contents of a column of messages."""
    messages = pa.types.is_list(type) and pa.types.is_struct(type.value_type)
    index = type.value_type.get_field_index("content") if messages else -1
    return type.value_type[index].type if index >= 0 else None


def _without_texts(schema: pa.Schema, columns: list[str]) -> pa.Schema:
    """The schema with contents that are texts taken for unknown, so that they go together with parts."""
    for index, field in enumerate(schema):
        if field.name in columns and pa.types.is_string(_content(field.type) or pa.null()):
            message = [pa.field("content", pa.null()) if f.name == "content" else f for f in field.type.value_type]
            schema = schema.set(index, pa.field(field.name, pa.list_(pa.struct(message))))
    return schema


def _array(values: list[Any], type: pa.DataType | None, mixed_as_text: bool) -> pa.Array:
    try:
        return pa.array(values, type=type)
    except (pa.ArrowException, OverflowError):
        if not mixed_as_text:
            raise
    return pa.array([value if isinstance(value, str | None) else json.dumps(value, default=str) for value in values])


def _with_texts(schemas: list[pa.Schema]) -> list[pa.Schema]:
    """The schemas with text in the columns whose types do not go together."""
    fields: dict[str, list[pa.Field]] = {}
    for schema in schemas:
        for field in schema:
            fields.setdefault(field.name, []).append(field)
    clashing = {name for name, same in fields.items() if name not in _OF_THE_FORMAT and not _go_together(same)}
    return [
        pa.schema([pa.field(field.name, pa.string()) if field.name in clashing else field for field in schema])
        for schema in schemas
    ]


def _go_together(fields: list[pa.Field]) -> bool:
    try:
        pa.unify_schemas([pa.schema([field]) for field in fields], promote_options="permissive")
    except pa.ArrowException:
        return False
    return True


def _undecoded(feature: Any) -> Any:
    if isinstance(feature, _FILES) and feature.decode:
        feature = copy(feature)
        feature.decode = False
    elif isinstance(feature, dict):
        feature = {name: _undecoded(part) for name, part in feature.items()}
    elif isinstance(feature, List):
        feature = List(_undecoded(feature.feature), length=feature.length)
    return feature
