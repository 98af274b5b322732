"""Answers that name their questions by an id: that there is one for each question, and a question for each."""

from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ..data.shown import shown


def check_ids(path: Path, answered: Iterable[Hashable], asked: Iterable[Hashable], file: str, setting: str) -> None:
    """
    Refuses answers to other questions than those of a benchmark's data.

    Args:
        path (`Path`): file of the answers.
        answered (`Iterable[Hashable]`): ids that they name.
        asked (`Iterable[Hashable]`): ids of the data.
        file (`str`): file of the data.
        setting (`str`): the setting that names it.

    Raises:
        ValueError: an answer has no question, or a question no answer. Both are counted, and the first is named.
    """
    answered, asked = dict.fromkeys(answered), dict.fromkeys(asked)
    unknown = [name for name in answered if name not in asked]
    missing = [name for name in asked if name not in answered]
    if unknown or missing:
        parts = [f"{len(unknown)} answers have an id that the data has not{_first(unknown)}"] if unknown else []
        parts += [f"{len(missing)} questions have no answer{_first(missing)}"] if missing else []
        raise ValueError(
            f"{path} does not belong to `{setting}` ({file}): {', and '.join(parts)}. Give the data that these "
            "answers are of, all of it and nothing else."
        )


def need_file(file: str | None, setting: str, what: str, path: Path) -> str:
    """The file that a setting names (`str`); an error that says what of is missing where it names none."""
    if not file:
        raise ValueError(f"{path} has answers without {what}: name the published file in `{setting}`.")
    return file


def entry_answer(path: Path, number: int, entry: Mapping[str, Any], names: tuple[str, ...]) -> str:
    """The answer of an entry (`str`), under the first of some names that it has."""
    key = next((name for name in names if name in entry), names[0])
    if not isinstance(entry.get(key), str):
        got = shown(repr(entry.get(key)), 200)
        raise ValueError(
            f"{path}, entry {number}: needs a text under {' or '.join(f'`{n}`' for n in names)}, got {got}."
        )
    return entry[key]


def _first(names: list) -> str:
    name = names[0]
    return f", the first {shown(' '.join(map(str, name)) if isinstance(name, tuple) else str(name), 200)}"
