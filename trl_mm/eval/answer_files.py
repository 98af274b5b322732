"""Files of answers that any tool wrote: JSON lines, one JSON array, or one JSON object."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data.shown import shown


def read_entries(path: Path, what: str = "`answers`") -> list[Any]:
    """
    Reads a JSON file whatever it is called.

    Args:
        path (`Path`): the file.
        what (`str`, *optional*, defaults to ``"`answers`"``): which setting names it, for messages.

    Returns:
        `list`: values of the lines or of the array; a file that is one object gives that object alone.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no JSON, or there is nothing in it; the message names the line.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{what} ({path}) is no file.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{what} ({path}) is not text in UTF-8 ({error}). Convert it.") from error
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError) as error:
        if text.lstrip().startswith("["):
            raise ValueError(f"{what} ({path}) starts as a JSON array and is none: {error}.") from error
        entries = [_line(path, what, number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    else:
        entries = whole if isinstance(whole, list) else [whole]
    if not entries:
        raise ValueError(f"{what} ({path}) is empty.")
    return entries


def check_entries(path: Path, entries: Iterable[Any], needed: Sequence[str]) -> None:
    """Refuses entries that are no objects with these keys; the message names the first, counted from 1."""
    for number, entry in enumerate(entries, start=1):
        missing = [key for key in needed if not isinstance(entry, Mapping) or entry.get(key) is None]
        if missing:
            raise ValueError(
                f"{path}, entry {number}: needs {', '.join(f'`{key}`' for key in needed)}, and has no "
                f"{', '.join(f'`{key}`' for key in missing)}: {shown(str(entry), 200)}"
            )


def as_answer(path: Path, number: int, value: Any, key: str = "answer") -> str:
    """An answer (`str`); anything else is refused."""
    if not isinstance(value, str):
        raise ValueError(f"{path}, entry {number}: `{key}` must be a text, got {shown(repr(value), 200)}.")
    return value


def _line(path: Path, what: str, number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{what} ({path}), line {number}: no JSON ({error}).") from error
