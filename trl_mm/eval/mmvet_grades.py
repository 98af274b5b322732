"""Files of MM-Vet: its questions, and grades as its evaluator writes them or one row for each answer."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..data.shown import shown
from .answer_files import read_entries
from .judged import json_object, same_ids
from .mmvet_scores import read_grade


CURE = "`mmvet_file` is mm-vet.json of mm-vet.zip (github.com/yuweihao/MM-Vet, releases)."


def read_mmvet(path: Path) -> dict[str, dict[str, Any]]:
    """
    Reads the questions: an object from id to `imagename`, `question`, `answer` and `capability`.

    Args:
        path (`Path`): mm-vet.json.

    Returns:
        `dict[str, dict]`

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it has another form; the message names the entry.
    """
    data = json_object(path, "mmvet_file", CURE)
    for id_, entry in data.items():
        for key in ("imagename", "question", "answer"):
            if not isinstance(entry, dict) or not isinstance(entry.get(key), str):
                raise ValueError(f"`mmvet_file` ({path}), {shown(id_)}: `{key}` must be a text. {CURE}")
        _capabilities(f"`mmvet_file` ({path}), {shown(id_)}", entry.get("capability"))
    return data


def read_grades(path: Path, data: Mapping[str, Mapping[str, Any]] | None) -> list[dict[str, Any]]:
    """
    Reads grades: `{"v1_0": {"score": [1.0, ...], "content": [...]}}` of the evaluator, or rows with `id` and `score`.

    Args:
        path (`Path`): the file.
        data (`Mapping[str, Mapping]`, *optional*): what [`read_mmvet`] gives, which says what each answer needs.

    Returns:
        `list[dict]`: rows with `image`, `id`, `capability`, `grades`, one for each run, and `replies`, what the judge
        wrote where the file says it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: an entry has another form, numbers of runs differ, an id is there twice, or ids are not those of
            the data.
    """
    rows: dict[str, dict[str, Any]] = {}
    for place, id_, entry in _entries(path):
        if id_ in rows:
            raise ValueError(f"{path}, {place}: {shown(id_)} is there twice. Give one row for each answer.")
        known = (data or {}).get(id_, entry)
        rows[id_] = {
            "image": str(known.get("imagename", id_)),
            "id": id_,
            "capability": _capabilities(f"{path}, {place}", known["capability"]) if "capability" in known else None,
            "grades": _grades(f"{path}, {place}", entry),
            "replies": [reply for reply in _as_list(entry.get("content")) if isinstance(reply, str)],
        }
    if data is not None:
        same_ids(rows, data, "grades", "`file`")
    runs = {len(row["grades"]): id_ for id_, row in rows.items()}
    if len(runs) > 1:
        told = ", ".join(f"{shown(id_)} has {number}" for number, id_ in sorted(runs.items()))
        raise ValueError(f"{path}: all answers need as many `score` as there are runs, but {told}.")
    return list(rows.values())


def _entries(path: Path) -> Iterable[tuple[str, str, Mapping[str, Any]]]:
    """Place, id and entry of each answer."""
    entries = read_entries(path)
    first = entries[0]
    if len(entries) == 1 and isinstance(first, dict) and not {"score", "content"} & first.keys():
        found = [(shown(id_), id_, entry) for id_, entry in first.items()]
        if not found:
            raise ValueError(f"{path} is an empty object: it needs an entry for each answer.")
    else:
        ids = [entry.get("id", entry.get("question_id")) if isinstance(entry, dict) else None for entry in entries]
        found = [
            (f"entry {number}", str(number if id_ is None else id_), entry)
            for number, (id_, entry) in enumerate(zip(ids, entries, strict=True), start=1)
        ]
    for place, _, entry in found:
        if not isinstance(entry, dict) or not {"score", "content"} & entry.keys():
            raise ValueError(
                f"{path}, {place}: needs `score` (a number from 0 to 1, or a list of them, one for each run), got "
                f"{shown(entry, 200)}. Answers alone have no score: a judge has to grade them, `trl-mm eval`."
            )
    return found


def _grades(place: str, entry: Mapping[str, Any]) -> list[float | None]:
    """Grades of one answer (`list[float | None]`): `score`, or where there is none what can be read in `content`."""
    grades: list[float | None] = []
    for value in _as_list(entry.get("score", entry.get("content"))):
        if isinstance(value, str) and "score" not in entry:
            value = read_grade(value) or 0.0
        right = isinstance(value, int | float) and not isinstance(value, bool) and 0.0 <= value <= 1.0
        if value is not None and not right:
            raise ValueError(f"{place}: `score` must be numbers from 0 to 1, got {shown(repr(value), 200)}.")
        grades.append(None if value is None else float(value))
    if not grades:
        raise ValueError(f"{place}: `score` is empty. Give one for each run.")
    return grades


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _capabilities(place: str, value: Any) -> list[str]:
    """What a question needs (`list[str]`); a text may hold several, as "ocr_math" or "ocr,math"."""
    if isinstance(value, str):
        value = value.replace(",", " ").replace("_", " ").split()
    if not isinstance(value, list) or not value or not all(isinstance(name, str) for name in value):
        raise ValueError(f'{place}: `capability` must be a list such as ["ocr", "math"], got {shown(value, 200)}.')
    return value
