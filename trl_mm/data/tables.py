"""Rows to Arrow tables and back. Images stay as they are stored: here they are neither decoded nor encoded."""

from collections.abc import Iterable
from typing import Any

import pyarrow as pa
from datasets import Features, Image, List


IMAGES = List(Image())
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


def to_table(rows: list[dict[str, Any]], features: Features | None = None) -> pa.Table:
    """
    Store rows as a table from which `datasets.Dataset` takes its features.

    Args:
        rows (`list[dict[str, Any]]`):
            Rows whose `images`, if any, are `{"bytes", "path"}`. A column that a row lacks is `None` in it.
        features (`datasets.Features`, *optional*):
            Features of the table. Inferred from `rows` by default, apart from `images`, a list of images.

    Returns:
        `pyarrow.Table`:
            Table with the features in its metadata.

    Raises:
        `ValueError`:
            If a column mixes types.
    """
    known = Features(images=IMAGES) if features is None else features
    types = {field.name: field.type for field in known.arrow_schema}
    names = dict.fromkeys(name for row in rows for name in row) if features is None else features
    columns = {}
    for name in names:
        try:
            columns[name] = pa.array([row.get(name) for row in rows], type=types.get(name))
        except (pa.ArrowException, UnicodeEncodeError, OverflowError) as error:
            raise ValueError(f"Column `{name}` cannot be stored: {error}. {_CURE}") from error
    table = pa.table(columns)
    return table.replace_schema_metadata((features or unified_features([table.schema])).arrow_schema.metadata)


def unified_features(schemas: Iterable[pa.Schema]) -> Features:
    """
    Features that rows of all these schemas fit in: a column that is always `None` in one of them takes the type that
    it has in another.

    Args:
        schemas (`Iterable[pyarrow.Schema]`):
            Schemas of tables from [`to_table`].

    Returns:
        `datasets.Features`:
            Union of the columns; `images` is a list of images.

    Raises:
        `ValueError`:
            If a column has types that do not go together, such as text and numbers.
    """
    try:
        # The empty schema stands for no rows at all.
        schema = pa.unify_schemas(
            [pa.schema([]), *(schema.remove_metadata() for schema in schemas)], promote_options="permissive"
        )
    except pa.ArrowException as error:
        raise ValueError(f"Rows differ in the type of a column: {error}. {_CURE}") from error
    features = Features.from_arrow_schema(schema)
    if "images" in features:
        features["images"] = IMAGES
    return features


def _undecoded(feature: Any) -> Any:
    if isinstance(feature, Image):
        return Image(decode=False)
    return List(_undecoded(feature.feature)) if isinstance(feature, List) else feature
