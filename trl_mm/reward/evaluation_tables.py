"""What is told of the evaluation of a reward model, as tables: for the terminal, and for its card."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .measures import LENGTH_BUCKETS, NUM_BINS


BLIND = "_blind"  # what the name of a dataset with exchanged images ends with


@dataclass(frozen=True)
class Table:
    """
    A table of texts.

    Args:
        title (`str`): what it shows, a sentence without its point.
        header (`list[str]`): names of the columns.
        rows (`list[list[str]]`): a text for each column.
    """

    title: str
    header: list[str]
    rows: list[list[str]]

    def __str__(self) -> str:
        widths = [max(map(len, column)) for column in zip(self.header, *self.rows, strict=True)]
        lines = [
            "  ".join(
                text.ljust(width) if place == 0 else text.rjust(width)
                for place, (text, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in (self.header, *self.rows)
        ]
        return "\n".join([f"{self.title}:", *lines])


def evaluation_tables(evaluations: Mapping[str, Mapping[str, Any]]) -> list[Table]:
    """
    Tables of the measures of one or several datasets.

    Args:
        evaluations (`Mapping[str, Mapping]`): what [`~trl_mm.reward.measures.measure_pairs`] returns, by the name of
            the dataset; `NAME_blind` is `NAME` with exchanged images.

    Returns:
        `list[Table]`: accuracy of each dataset, accuracy by lengths, and confidence beside accuracy.
    """
    seeing = {name: found for name, found in evaluations.items() if sighted(name, evaluations) is None}
    if not seeing:
        return []
    summary = [
        [
            name,
            f"{found['num_pairs']:,}",
            percent(found["accuracy"]),
            percent(evaluations.get(name + BLIND, {}).get("accuracy")),
            percent(found.get("longer_wins")),
            percent(found.get("longer_preferred")),
            f"{found['ece']:.3f}",
        ]
        for name, found in seeing.items()
    ]
    by_length = [
        [name, *(counted(found["by_length"].get(bucket)) for bucket in LENGTH_BUCKETS)]
        for name, found in seeing.items()
        if "by_length" in found
    ]
    bins = [f"{row['low']:.2f} to {row['high']:.2f}" for row in next(iter(seeing.values()))["reliability"][:NUM_BINS]]
    right = [
        [name, *(counted(row if row["num_pairs"] else None) for row in found["reliability"])]
        for name, found in seeing.items()
    ]
    tables = [
        Table("Accuracy", ["dataset", "pairs", "seeing", "blind", "longer wins", "longer preferred", "ECE"], summary),
        Table("Accuracy (pairs) by the length of the chosen answer", ["dataset", *LENGTHS.values()], by_length),
        Table("Accuracy (pairs) by confidence", ["dataset", *bins], right),
    ]
    return [table for table in tables if table.rows]


def sighted(name: str, evaluations: Mapping[str, Any]) -> str | None:
    """Name (`str`) of the dataset that one is the blind twin of; `None` if it is none."""
    other = name.removesuffix(BLIND)
    return other if other != name and other in evaluations else None


def percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def counted(part: Mapping[str, Any] | None) -> str:
    return "–" if part is None else f"{part['accuracy']:.0%} ({part['num_pairs']:,})"


LENGTHS = {
    "much_shorter": "half or less",
    "shorter": "shorter",
    "same_length": "within 10 %",
    "longer": "longer",
    "much_longer": "twice or more",
}
