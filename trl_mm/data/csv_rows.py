"""Rows of CSV files, as image folders of `datasets` have them: the first line names the columns, values are text."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .shown import shown


@dataclass(frozen=True)
class CSVRows:
    """
    The rows of CSV files.

    Args:
        files (`Sequence[Path]`):
            Files in UTF-8.

    Iterating raises a `ValueError` that names file and line where there is something else.
    """

    files: Sequence[Path]

    def __iter__(self) -> Iterator[dict[str, str]]:
        for file in self.files:
            name = shown(str(file), 1000)
            with open(file, encoding="utf-8-sig", newline="") as text:
                reader = csv.DictReader(text, strict=True)
                try:
                    for row in reader:
                        if None in row or None in row.values():
                            raise ValueError(
                                f"there are {len(reader.fieldnames or ())} columns, but not as many values"
                            )
                        yield row
                except UnicodeDecodeError as error:
                    raise ValueError(f"{name} is not text in UTF-8: {error}. Convert it.") from error
                except (csv.Error, ValueError) as error:
                    raise ValueError(
                        f"{name}, line {reader.reader.line_num}: no CSV ({error}). Correct it, or write JSON lines."
                    ) from error
