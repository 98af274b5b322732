"""Files that appear under their name when they are complete: who reads one sees the old content or the new."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(path: Path, writer: int | str) -> Iterator[BinaryIO]:
    """
    Open a file that takes its name only when it is written completely and on the disk.

    Args:
        path (`Path`):
            Name of the file.
        writer (`int` or `str`):
            This process or thread, part of the temporary name, so that none writes into the file of another.
    """
    temporary = path.with_name(f".{path.name}.rank{writer}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
