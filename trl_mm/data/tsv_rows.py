"""
Rows of the TSV files that RLHF-V and RLAIF-V train on: no line names the columns, of which there are seven, with image
and text in base64.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .json_rows import Damage
from .shown import shown


COLUMNS = (
    *("dataset_name", "img_b64_buffer", "text_b64", "origin_dataset", "origin_split", "origin_split_inner_idx"),
    "image_path",
)


@dataclass(frozen=True)
class TSVRows:
    """
    The rows of TSV files.

    Args:
        files (`Sequence[Path]`): files in UTF-8.
        goes_on (`bool`, *optional*, defaults to `False`): whether to give a [`Damage`] in the place of a line that is
            no row, and go on.

    Iterating raises a `ValueError` that names file and line where there is something else, unless it `goes_on`.
    """

    files: Sequence[Path]
    goes_on: bool = False

    def __iter__(self) -> Iterator[dict[str, str] | Damage]:
        for file in self.files:
            yield from self.values(file)

    def values(self, file: Path) -> Iterator[dict[str, str] | Damage]:
        """The rows of one file."""
        with open(file, "rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                try:
                    cells = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n").split("\t")
                    reason = None if len(cells) == len(COLUMNS) else f"{len(cells)} columns in place of {len(COLUMNS)}"
                except UnicodeDecodeError:
                    reason = "not text in UTF-8"
                if reason is None:
                    yield dict(zip(COLUMNS, cells, strict=True))
                    continue
                reason = (
                    f"{shown(str(file), 1000)}, line {number}: no row of RLHF-V's TSV ({reason}). Convert it to JSONL."
                )
                if not self.goes_on:
                    raise ValueError(reason)
                yield Damage(reason)
