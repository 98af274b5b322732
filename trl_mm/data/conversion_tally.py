"""What became of the rows of a dataset that is converted: counts, and the lines that say them."""

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from .bad_rows import counted
from .shown import shown


MOST_REASONS = 50  # that are counted apart
OTHER = "for other reasons"
# As [`RowReader`] says it
_FAILED = re.compile(r"the converter failed with (?P<kind>\w+)\((?P<said>.*)\)\. Columns found: ", re.DOTALL)
LINES = {
    "left_out": "left out",
    "pairs_left_out": "pairs left out of rows that make others",
    "not_wanted": "not wanted",
    "bad": "bad",
}


@dataclass
class Tally:
    """
    Counts of one pass over a source.

    Attributes:
        read (`int`): rows of the source, those that cannot be read included as far as they are known.
        kept (`int`): rows that are made of them and go on; there may be several of one.
        left_out (`Counter`): rows of the source that the converter leaves out, by reason.
        pairs_left_out (`Counter`): pairs, such as ties, of rows of the source that make other pairs, by reason.
        filtered (`Counter`): made rows that are not wanted, by reason.
        bad (`Counter`): what cannot be read or used, by reason.
        first (`str`): what is said of the first row that is left out or bad.
        safety (`int`): rows among those kept that are about safety.
        images_found, images_missing (`int`): images of rows that are wanted.
    """

    read: int = 0
    kept: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    pairs_left_out: Counter[str] = field(default_factory=Counter)
    filtered: Counter[str] = field(default_factory=Counter)
    bad: Counter[str] = field(default_factory=Counter)
    first: str = ""
    safety: int = 0
    images_found: int = 0
    images_missing: int = 0

    def add(self, kind: Counter[str], reason: str) -> None:
        """Count a row in `left_out`, `filtered` or `bad`."""
        kind[reason if reason in kind or len(kind) < MOST_REASONS else OTHER] += 1

    def as_dict(self, written: dict[str, int]) -> dict[str, Any]:
        """The counts as JSON values, with the number of rows `written` in each split."""
        return {
            "read": self.read,
            "written": written,
            "left_out": dict(self.left_out.most_common()),
            "pairs_left_out": dict(self.pairs_left_out.most_common()),
            "not_wanted": dict(self.filtered.most_common()),
            "bad": dict(self.bad.most_common()),
            "safety": self.safety,
            "images_found": self.images_found,
            "images_missing": self.images_missing,
        }


def kind_of(reason: str) -> str:
    """What messages about different rows have in common: without the place, values, numbers and the cure."""
    if failed := _FAILED.search(reason):
        kind, said = failed["kind"], failed["said"].strip("'\"")
        return f"the converter failed: {shown(said, 100) if kind == 'KeyError' else _common(said)} ({kind})"
    return _common(reason)


def _common(reason: str) -> str:
    text = re.sub(r"^.*?, (line|row|row group) \d+: |^row \d+: |^/\S*: ", "", reason, count=1, flags=re.S)
    text = re.sub(r"'[^']*'|\"[^\"]*\"|/\S*", "…", text)
    text = re.sub(r"(?<![-\w])\d+(?:[.,]\d+)*", "N", text)
    return shown(re.split(r"[.:] |\.$| \(| in one of ", text, maxsplit=1)[0], 100)


def summary_lines(summary: dict[str, Any]) -> list[str]:
    """What [`Tally.as_dict`] says, for people."""
    written = summary["written"]
    splits = ", ".join(f"{number:,} {name}" for name, number in written.items()) if len(written) > 1 else ""
    lines = [f"{summary['read']:,} rows read, {sum(written.values()):,} written{f' ({splits})' if splits else ''}"]
    for name, text in LINES.items():
        if reasons := summary.get(name):  # manifests of earlier versions count no pairs
            lines.append(f"{sum(reasons.values()):,} {text}: {counted(reasons)}")
    if summary["safety"]:
        lines.append(f"{summary['safety']:,} about safety (`is_safety`): a refusal may be the better answer there")
    lines.append(f"images: {summary['images_found']:,} found, {summary['images_missing']:,} missing")
    return lines
