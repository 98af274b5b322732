"""Which converter rows go through: a function, one of a name, or the one that their columns ask for."""

import difflib
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any

from datasets import Dataset, IterableDataset

from .converters import converter_of, find_converter, nearest_converter
from .converters.left_out import LeftOut
from .converters.mmpr_meta import is_meta, object_kind
from .layouts import UNPAIRED, is_unpaired
from .reader import GENERIC, Converter, Row, RowReader
from .rows import PREFERENCE_COLUMNS, normalize_row
from .shown import shown, shown_names
from .tables import raw_rows


logger = logging.getLogger(__name__)

AUTO = "auto"
_LOOKED_AT = 16  # rows at the beginning; the first ones may be broken


@dataclass(frozen=True)
class RenamedColumns:
    """
    Renames columns of a row as it is stored, before anything else looks at them. A row need not have all of them:
    one without an image may lack that column. It can be pickled.

    Args:
        columns (`Mapping[str, str]`): new name of a column to the name that it has.
        converter (`Callable`, *optional*): what the renamed row goes through.
    """

    columns: Mapping[str, str]
    converter: Converter | None = None

    def __call__(self, row: Row) -> Row | list[Row]:
        return self.renamed(row) if self.converter is None else self.converter(self.renamed(row))

    def renamed(self, row: Row) -> Row:
        """The row as the converter gets it."""
        renamed = {name: value for name, value in row.items() if name not in self.columns.values()}
        return renamed | {new: row[old] for new, old in self.columns.items() if old in row}


def choose_converter(
    converter: Converter | str | None,
    columns: Mapping[str, str] | None,
    rows: Any,
    locate: Callable[[int], tuple[str, int]],
    needs: Sequence[str],
) -> Converter | None:
    """
    The converter of some rows.

    Args:
        converter (`Callable` or `str`, *optional*):
            A converter, the name of one, or `"auto"` for the one whose columns the first rows have; none for rows
            that are in the format already.
        columns (`Mapping[str, str]`, *optional*):
            New name of a column to the name that it has.
        rows (`datasets.Dataset`, `datasets.IterableDataset` or `Iterable[dict[str, Any]]`):
            Rows as stored. Only the first ones are looked at.
        locate (`Callable`):
            From the index of a row to its file and its position there, for messages.
        needs (`Sequence[str]`):
            Columns that rows of the format must have.

    Returns:
        `Callable` or `None`:
            What a row goes through; `None` if it stays as it is.

    Raises:
        ValueError: there is no such converter, `columns` does not name columns that there are, or `"auto"` knows no
            converter for the columns.
    """
    if converter == AUTO or columns:
        first = [row for row in first_rows(rows) if isinstance(row, dict)]
        check_columns(columns or {}, first)
    if converter == AUTO:
        converter = recognised([RenamedColumns(columns or {}).renamed(row) for row in first], locate, needs)
    if isinstance(converter, str):
        converter = find_converter(converter)
    return RenamedColumns(columns, converter) if columns else converter


def check_columns(columns: Mapping[str, str], rows: Sequence[Row]) -> None:
    """Refuse names (as in [`choose_converter`]) of columns that none of these rows has."""
    example = "{'prompt': 'question'}"
    if not isinstance(columns, Mapping) or not all(isinstance(name, str) for pair in columns.items() for name in pair):
        raise ValueError(f"`columns` must map new names to those that columns have, got {shown(columns)}: {example}.")
    known = list(dict.fromkeys(name for row in rows for name in row))
    for new, old in columns.items():
        if rows and old not in known:
            near = difflib.get_close_matches(old, known, n=1)
            hint = f" Did you mean `{shown(near[0])}`?" if near else ""
            raise ValueError(
                f"`columns` takes `{shown(new)}` from `{shown(old)}`, and there is no such column.{hint} Columns: "
                f"{shown_names(known)}."
            )


def recognised(rows: Sequence[Row], locate: Callable[[int], tuple[str, int]], needs: Sequence[str]) -> str | None:
    """
    Name of the converter that rows ask for by their columns.

    Args:
        rows (`Sequence[dict[str, Any]]`): first rows as stored.
        locate, needs: as in [`choose_converter`].

    Returns:
        `str` or `None`: the name; `None` if they are in the format.

    Raises:
        ValueError: none of the rows has a known layout. The message shows the columns and the nearest converter.
    """
    if rows and is_unpaired(rows[0]):
        file, position = locate(0)
        raise ValueError(f"{f'{shown(file, 1000)}, ' if file else ''}row {position}: {UNPAIRED}")
    may_be_generic = False
    for row in rows:
        if _has_messages(row):
            return None
        name, columns = converter_of(row), normalize_row(row, "").keys()
        if name == GENERIC and not {*needs} <= columns:
            may_be_generic = True  # others may show more of their columns
            continue
        if name not in (None, GENERIC):
            logger.info("The rows are read with the converter `%s`.", name)
            return name
        if may_be_generic:
            continue
        if {*needs} & {"prompt", "chosen"} <= columns:
            return None  # or what is missing is said when the row is read
    if may_be_generic:
        logger.info("The rows are read with the converter `%s`.", GENERIC)
        return GENERIC
    if not rows:
        return None
    file, position = locate(0)
    if is_meta(rows[0]):
        raise ValueError(f"{shown(file, 1000) if file else 'The source'} is {object_kind(rows[0])}")
    near = nearest_converter(rows[0])
    raise ValueError(
        f"{f'{shown(file, 1000)}, ' if file else ''}row {position}: the columns are of no known layout: "
        f"{shown_names(rows[0])}. The nearest converter is `{near}`: pass it as `converter` (`--converter {near}`), "
        'or say which column is which with `columns` (`--columns \'{"prompt": "question"}\'`).'
    )


def needs_of(rows: Sequence[Row], converter: Converter | None) -> tuple[str, ...]:
    """
    Columns that converted rows must have: if none of the first ones has a `rejected`, they are SFT rows.

    Args:
        rows (`Sequence[dict[str, Any]]`): first rows as stored.
        converter (`Callable`, *optional*): what they go through.

    Returns:
        `tuple[str, ...]`: the columns.
    """
    reader = RowReader(converter, None, (), "skip", lambda index: ("", index))
    columns: set[str] = set()
    for row in rows:
        with suppress(LeftOut, ValueError):
            columns.update(*(normalize_row(made, "") for made in reader.convert(row, 0)))
    sft = [name for name in PREFERENCE_COLUMNS if name != "rejected"]
    return tuple(sft) if "chosen" in columns and "rejected" not in columns else PREFERENCE_COLUMNS


def first_rows(rows: Any) -> list[Row]:
    """The first rows as they are stored, images not decoded."""
    if isinstance(rows, Dataset) and rows.format["type"] != "custom":
        count = min(_LOOKED_AT, len(rows))
        return raw_rows(rows.with_format("arrow")[:count], rows.features) if count else []
    if isinstance(rows, IterableDataset) and rows.features is not None:
        rows = rows.decode(False)
    return list(islice(rows, _LOOKED_AT))


def _has_messages(row: Row) -> bool:
    """Whether prompt and answer are messages, which no published layout that needs a converter has."""
    return all(
        isinstance(row.get(name), list) and row[name] and isinstance(row[name][0], dict) and "role" in row[name][0]
        for name in ("prompt", "chosen")
    )
