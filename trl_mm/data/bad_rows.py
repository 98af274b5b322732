"""The list of rows that are left out: for their images, or because they make no pair."""

import json
import logging
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from .atomic_file import replacing
from .reader import Row
from .shown import shown


logger = logging.getLogger(__name__)


def check_bad_rows_file(file: str | os.PathLike | None) -> None:
    """Refuse a name that stands for something else: a file somewhere else would be emptied in its place."""
    if file is not None and os.path.lexists(file) and (os.path.islink(file) or not os.path.isfile(file)):
        raise ValueError(f"`bad_rows_file` ({shown(str(file), 1000)}) is a link or no regular file. Remove it.")


def list_bad_rows(rows: list[Row], file: str | os.PathLike | None) -> None:
    """List rows that are left out in the file, if there is one. An old list, which would name good rows, goes."""
    if file is not None and (rows or os.path.exists(file)):
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        with replacing(Path(file), os.getpid()) as lines:  # a link that came meanwhile is replaced, not followed
            lines.write("".join(json.dumps(row) + "\n" for row in rows).encode())


def report_bad_rows(bad: list[Row], num_rows: int, file: str | os.PathLike | None) -> None:
    """Say how many rows are left out for their images."""
    if bad:
        logger.warning(
            "%d of %d rows skipped: missing or undecodable images. The first: %s %s",
            len(bad), num_rows, bad[0]["reason"], _where_listed(file),
        )  # fmt: skip


def report_left_out(left_out: list[Row], num_rows: int, file: str | os.PathLike | None) -> None:
    """Say how many rows a converter has left out, by reason."""
    if left_out:
        reasons = counted(Counter(row["reason"] for row in left_out))
        logger.warning("Left out %d of %d rows: %s. %s", len(left_out), num_rows, reasons, _where_listed(file))


def counted(reasons: Mapping[str, int]) -> str:
    """Reasons with the number of rows of each, the most frequent first, such as "10 tie, 2 empty chosen"."""
    return ", ".join(f"{number:,} {shown(reason)}" for reason, number in Counter(reasons).most_common())


def _where_listed(file: str | os.PathLike | None) -> str:
    return f"Listed in {file}." if file is not None else "Pass `bad_rows_file` to get a list."
