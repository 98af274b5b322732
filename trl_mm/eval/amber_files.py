"""AMBER's files: its data folder and the answers that its script reads."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..data.shown import shown
from .amber_scores import DIMENSIONS
from .answer_files import as_answer, check_entries, read_entries


LONGEST_ID = 10  # digits; Python converts no text of thousands
PARTS = ("generative", "existence", "attribute", "relation")


class AmberData(NamedTuple):
    """
    What is in AMBER's data folder.

    Args:
        annotations (`dict[int, dict]`):
            From id to `type`, `truth`, and for descriptions `hallu`.
        association (`dict[str, list[str]]`):
            From an object to words that stand for it, too.
        safe_words (`frozenset[str]`):
            Words that are never hallucinated.
        queries (`dict[int, dict]`):
            From id to `image` and `query`; empty where the folder has no queries.
    """

    annotations: dict[int, dict[str, Any]]
    association: dict[str, list[str]]
    safe_words: frozenset[str]
    queries: dict[int, dict[str, Any]]

    def part(self, number: int) -> str:
        """Part of the benchmark that an id belongs to (`str`)."""
        kind = self.annotations[number]["type"]
        return "generative" if kind == "generative" else DIMENSIONS[kind][0]

    def row(self, number: int) -> dict[str, Any]:
        """Row of an id, with what scores need."""
        annotation = self.annotations[number]
        query = self.queries.get(number, {"image": f"question {number}", "query": ""})
        return {"id": number, "image": query["image"], "question": query["query"], "truth": annotation}


def read_amber(folder: str | Path) -> AmberData:
    """
    Reads AMBER's data folder: `annotations.json`, `relation.json`, `safe_words.txt`, and, in it or in its folder
    `query`, `query_all.json` or the files of its parts (`query_generative.json` and so on).

    Args:
        folder (`str` or `Path`):
            The folder `data` of junyangwang0410/AMBER.

    Returns:
        [`AmberData`]

    Raises:
        OSError: a file is missing or cannot be read.
        ValueError: a file has another format; the message names the file and the entry.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"`amber_data` ({folder}) is no folder: give `data` of junyangwang0410/AMBER.")
    annotations = _by_id(folder / "annotations.json", ("id", "type", "truth"))
    for number, entry in annotations.items():
        described = entry["type"] == "generative"
        lists = [entry["truth"], entry.get("hallu")] if described else []
        if not (described or entry["type"] in DIMENSIONS) or not all(isinstance(words, list) for words in lists):
            raise ValueError(f"{folder}/annotations.json, id {number}: unknown form {shown(str(entry), 200)}")
    association = read_entries(folder / "relation.json", "`amber_data`")[0]
    if not isinstance(association, dict) or not all(isinstance(words, list) for words in association.values()):
        raise ValueError(f"{folder}/relation.json must be an object of lists of words.")
    try:
        safe = (folder / "safe_words.txt").read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise OSError(f"`amber_data` ({folder}) lacks safe_words.txt: {error}.") from error
    return AmberData(annotations, association, frozenset(safe), _queries(folder))


def read_responses(path: Path, data: AmberData, parts: Sequence[str]) -> list[tuple[int, str]]:
    """
    Reads answers as AMBER's script does, `[{"id": 1005, "response": "Yes"}, ...]`, of some parts.

    Raises:
        OSError: there is no such file.
        ValueError: an entry lacks something, or the ids of a part are not those of the data: the message counts them.
    """
    entries = read_entries(path)
    check_entries(path, entries, ("id", "response"))
    answers: dict[int, str] = {}
    for number, entry in enumerate(entries, start=1):
        name = _as_id(path, number, entry["id"])
        if name in answers:
            raise ValueError(f"{path}, entry {number}: id {name} is there twice. Keep one of them.")
        answers[name] = as_answer(path, number, entry["response"], "response")
    unknown = [number for number in answers if number not in data.annotations]
    found = {number: answer for number, answer in answers.items() if number in data.annotations}
    asked = {part for number in found if (part := data.part(number)) in parts}
    missing = [number for number in data.annotations if data.part(number) in asked and number not in answers]
    faults = []
    if unknown:
        faults.append(f"answers to {len(unknown)} ids that AMBER does not have, first {unknown[0]}")
    if missing:
        faults.append(f"no answer to {len(missing)} ids of {', '.join(sorted(asked))}, first {missing[0]}")
    if not asked:
        faults.append(f"no answer to any of {', '.join(parts)}")
    if faults:
        raise ValueError(
            f"{path} has {', and '.join(faults)}. Give all answers to a part, or leave the part out by `parts`."
        )
    return [(number, answer) for number, answer in found.items() if data.part(number) in asked]


def _as_id(path: Path, number: int, value: Any) -> int:
    """An id (`int`), which other tools write as a text too."""
    if isinstance(value, str) and value.strip().isdecimal() and len(value) < LONGEST_ID:
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        raise ValueError(f"{path}, entry {number}: `id` must be a whole number, got {shown(repr(value), 50)}.")
    return int(value)


def _queries(folder: Path) -> dict[int, dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    for place in (folder, folder / "query"):
        files = [place / "query_all.json"]
        if not files[0].is_file():
            files = sorted({*place.glob("query_*.json")} - {place / "query_discriminative.json"})
        for file in files:
            found |= _by_id(file, ("id", "image", "query"))
        if found:
            break
    return found


def _by_id(path: Path, needed: Sequence[str]) -> dict[int, dict[str, Any]]:
    entries = read_entries(path, "`amber_data`")
    check_entries(path, entries, needed)
    for number, entry in enumerate(entries, start=1):
        if not isinstance(entry["id"], int):
            raise ValueError(f"{path}, entry {number}: `id` must be a number, got {json.dumps(entry['id'])[:50]}.")
    return {entry["id"]: entry for entry in entries}
