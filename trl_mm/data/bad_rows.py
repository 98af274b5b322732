"""The list of rows that are left out for their images."""

import json
import logging
import os
from pathlib import Path

from .atomic_file import replacing
from .reader import Row
from .shown import shown


logger = logging.getLogger(__name__)


def check_bad_rows_file(file: str | os.PathLike | None) -> None:
    """Refuse a name that stands for something else: a file somewhere else would be emptied in its place."""
    if file is not None and os.path.lexists(file) and (os.path.islink(file) or not os.path.isfile(file)):
        raise ValueError(f"`bad_rows_file` ({shown(str(file), 1000)}) is a link or no regular file. Remove it.")


def report_bad_rows(bad: list[Row], num_rows: int, file: str | os.PathLike | None) -> None:
    """Say how many rows are left out, and list them in the file, if there is one."""
    if file is not None and (bad or os.path.exists(file)):  # an old list would name rows that are good now
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        with replacing(Path(file), os.getpid()) as lines:  # a link that came meanwhile is replaced, not followed
            lines.write("".join(json.dumps(row) + "\n" for row in bad).encode())
    if bad:
        listed = f"Listed in {file}." if file is not None else "Pass `bad_rows_file` to get a list."
        logger.warning(
            "%d of %d rows skipped: missing or undecodable images. The first: %s %s",
            len(bad), num_rows, bad[0]["reason"], listed,
        )  # fmt: skip
