"""Which rows of a dataset are wanted, by what their other columns say of where they come from."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .shown import shown


@dataclass(frozen=True)
class RowFilter:
    """
    Keeps rows with certain values.

    Args:
        where (`Mapping[str, tuple[str, ...]]`, *optional*):
            Column to the values that a row may have there, as text, such as `{"source": ("coco",)}`.
        min_rating_gap (`float`, *optional*):
            Least difference between `chosen_rating` and `rejected_rating`.
        skip_safety (`bool`, *optional*, defaults to `False`):
            Whether rows that are about safety (`is_safety`), where a refusal may be the better answer, are not wanted.
    """

    where: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    min_rating_gap: float | None = None
    skip_safety: bool = False

    def reason(self, row: Mapping[str, Any]) -> str | None:
        """Why a row is not wanted (`str`), the same for all rows of the kind; `None` if it is."""
        if self.skip_safety and row.get("is_safety"):
            return "safety"
        for column, values in self.where.items():
            if row.get(column) is None:
                return f"no `{shown(column)}`"
            if str(row[column]) not in values:
                return f"`{shown(column)}` is not {' or '.join(map(shown, values))}"
        if self.min_rating_gap is None:
            return None
        ratings = [_number(row.get(name)) for name in ("chosen_rating", "rejected_rating")]
        if ratings[0] is None or ratings[1] is None:
            return "no `chosen_rating` and `rejected_rating`"
        is_wide = ratings[0] - ratings[1] >= self.min_rating_gap
        return None if is_wide else f"ratings differ by less than {self.min_rating_gap:g}"


def parse_where(conditions: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """
    Conditions of [`RowFilter`] from texts.

    Args:
        conditions (`Iterable[str]`): `column=value`; with the same column again, either value will do.

    Returns:
        `dict[str, tuple[str, ...]]`: column to values.

    Raises:
        ValueError: one is written otherwise.
    """
    where: dict[str, tuple[str, ...]] = {}
    for condition in conditions:
        column, equals, value = str(condition).partition("=")
        if not equals or not column:
            raise ValueError(f"`where` ({shown(str(condition))}) must be column=value, such as source=coco.")
        where[column] = (*where.get(column, ()), value)
    return where


def _number(value: Any) -> float | None:
    try:
        return None if value is None or isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None
