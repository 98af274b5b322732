"""What the benchmarks that a judge scores have in common: its replies in files, and counts per image."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data.shown import shown
from .answer_files import check_entries, read_entries


def reply_text(entry: Any) -> str | None:
    """
    The judge's reply in an entry of a file: a text, an object that has it as `reply`, `content` or `review`, or an
    OpenAI response, also inside such an object.

    Args:
        entry (`Any`): the entry.

    Returns:
        `str` or `None`: the text; `None` where it is null: the answer was not judged.

    Raises:
        ValueError: none of these.
    """
    if entry is None or isinstance(entry, str):
        return entry
    if isinstance(entry, Mapping):
        if "choices" in entry:
            try:
                return reply_text(entry["choices"][0]["message"]["content"])
            except (TypeError, KeyError, IndexError):
                raise ValueError("its `choices` are not those of a chat completion") from None
        for key in ("reply", "content", "review"):
            if key in entry:
                return reply_text(entry[key])
    raise ValueError("needs the judge's reply: a text, `reply`, `content`, or an OpenAI response with `choices`")


def read_replies(path: Path) -> tuple[list[Any], list[str | None]]:
    """
    Entries of a file of replies, and the reply in each.

    Args:
        path (`Path`): JSON lines or a JSON array.

    Returns:
        `tuple[list, list[str | None]]`

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: an entry has no reply; the message names the entry, counted from 1.
    """
    entries, replies = read_entries(path), []
    for number, entry in enumerate(entries, start=1):
        try:
            replies.append(reply_text(entry))
        except ValueError as error:
            raise ValueError(f"{path}, entry {number}: {error}, got {shown(entry, 200)}.") from None
    return entries, replies


def read_data(path: Path, setting: str, needed: Sequence[str], cure: str) -> list[dict[str, Any]]:
    """
    Rows of a published file of data: objects that have certain keys.

    Args:
        path (`Path`): the file.
        setting (`str`): the setting that names it, for messages.
        needed (`Sequence[str]`): keys that every row has.
        cure (`str`): where it is to be had.

    Returns:
        `list[dict[str, Any]]`

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no JSON, or a row lacks a key.
    """
    try:
        entries = read_entries(path, f"`{setting}`")
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error} {cure}") from error
    check_entries(path, entries, needed)
    return entries


def same_ids(given: Iterable[Any], known: Iterable[Any], what: str, where: str) -> None:
    """
    Refuses ids of which some are on one side only.

    Args:
        given (`Iterable`): ids of the answers.
        known (`Iterable`): ids of the data.
        what (`str`): what the former are, such as `"grades"`.
        where (`str`): the file of the latter.

    Raises:
        ValueError: some are on one side only; the message counts both kinds and names the first.
    """
    given, known = list(dict.fromkeys(given)), list(dict.fromkeys(known))
    strange = [id_ for id_ in given if id_ not in set(known)]
    missing = [id_ for id_ in known if id_ not in set(given)]
    if strange or missing:
        first = shown((strange or missing)[0])
        raise ValueError(
            f"{len(strange)} {what} have an id that {where} does not have, and {len(missing)} of its ids have none; "
            f"the first is {first}. Give the file that these {what} are for, and all of them."
        )


def judged_column(questions: Sequence[Mapping[str, Any]], name: str, title: str) -> list[Any]:
    """
    A column that the judge's part of a benchmark adds to its rows.

    Raises:
        ValueError: rows lack it: nobody has judged them.
    """
    if any(name not in row for row in questions):
        raise ValueError(f"{title} is scored by a judge, and its answers were not shown to one: give a judge model.")
    return [row[name] for row in questions]


def per_image(images: Sequence[str], values: Sequence[float | None]) -> list[float]:
    """Sums of values over the questions about each image, in the order of its first; `None` adds nothing."""
    sums = dict.fromkeys(images, 0.0)
    for image, value in zip(images, values, strict=True):
        sums[image] += value or 0.0
    return list(sums.values())


def counted(values: Iterable[float | None]) -> list[float]:
    """1.0 for each value that there is, and 0.0 for what was not judged."""
    return [float(value is not None) for value in values]


def unjudged_lines(
    title: str, values: Sequence[float | None], unreadable: int, read_as: str, runs: int = 1
) -> list[str]:
    """
    What has to be said of the judge.

    Args:
        title (`str`): name of the benchmark.
        values (`Sequence[float | None]`): scores, `None` for what was not judged.
        unreadable (`int`): replies without a score that can be read.
        read_as (`str`): what the published rule makes of them.
        runs (`int`, *optional*, defaults to `1`): replies for each answer.
    """
    lines, missing = [], sum(value is None for value in values)
    if missing == len(values):
        lines.append(f"{title}: no answer was judged, so its scores of 0 say nothing. Check the judge.")
    elif missing:
        lines.append(f"{title}: {missing} of {len(values)} answers were not judged. They are left out of all scores.")
    if unreadable:
        lines.append(f"{title}: {unreadable} replies of the judge have no score to read. As published, {read_as}.")
    if unreadable > runs * (len(values) - missing) / 2:
        lines.append(
            f"{title}: most replies have no score to read, so its scores say nothing of the model. Read them."
        )
    return lines


def json_object(path: Path, setting: str, cure: str) -> dict[str, Any]:
    """
    A published file that is one JSON object.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no JSON object.
    """
    if not path.is_file():
        raise FileNotFoundError(f"`{setting}` ({path}) is no file. {cure}")
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"`{setting}` ({path}) is no JSON: {error}. {cure}") from error
    if not isinstance(value, dict) or not value:
        raise ValueError(f"`{setting}` ({path}) must be a JSON object. {cure}")
    return value
