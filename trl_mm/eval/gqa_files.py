"""Questions of GQA in the formats in which they are published."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .answer_files import check_entries, read_entries


@dataclass(frozen=True)
class GQAQuestion:
    """A question with its image (a path relative to the image folder), its reference answer and its types."""

    image: str
    text: str
    answer: str
    types: dict[str, str] = field(default_factory=dict)


def read_gqa_file(file: str | Path) -> dict[str, GQAQuestion]:
    """
    Reads questions with answers: GQA's own file, one object from id to question, or rows with the same keys.

    ```
    {"201307251": {"imageId": "n161313", "question": "Is it overcast?", "answer": "no", "isBalanced": true,
                   "types": {"structural": "verify", "semantic": "global", "detailed": "weatherVerify"}, ...}, ...}
    {"question_id": "201307251", "image": "n161313.jpg", "question": "Is it overcast?", "answer": "no"}
    ```

    As in the authors' scorer, questions that are said to be not balanced are left out.

    Args:
        file (`str` or `Path`):
            The file.

    Returns:
        `dict[str, GQAQuestion]`: by id.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: an entry lacks something, as LLaVA's question file, which has no answers; or an id comes twice.
    """
    path = Path(file)
    entries = read_entries(path, "`gqa_file`")
    whole = entries[0] if len(entries) == 1 and isinstance(entries[0], Mapping) else {}
    if whole and all(isinstance(value, Mapping) for value in whole.values()):
        entries = [{**entry, "question_id": id_} for id_, entry in whole.items()]
    if isinstance(entries[0], Mapping) and "text" in entries[0] and "answer" not in entries[0]:
        raise ValueError(
            f"`gqa_file` ({path}) has questions without answers, as LLaVA's llava_gqa_testdev_balanced.jsonl: name "
            "testdev_balanced_questions.json here, and this file in `gqa_questions`."
        )
    check_entries(path, entries, ("question", "answer"))
    found: dict[str, GQAQuestion] = {}
    for number, entry in enumerate(entries, start=1):
        id_, image = _first(entry, "question_id", "questionId", "id"), _first(entry, "imageId", "image")
        if id_ is None or image is None:
            raise ValueError(f"{path}, entry {number}: needs `question_id`, and `imageId` or `image`.")
        if str(id_) in found:
            raise ValueError(f"{path}, entry {number}: the question {id_} comes twice.")
        if entry.get("isBalanced", True):
            types = entry.get("types") if isinstance(entry.get("types"), Mapping) else {}
            kinds = {kind: str(types[kind]) for kind in ("structural", "semantic") if types.get(kind) is not None}
            name = str(image) if "." in str(image) else f"{image}.jpg"
            found[str(id_)] = GQAQuestion(name, str(entry["question"]), str(entry["answer"]), kinds)
    return found


def read_llava_questions(
    file: str | Path, data: Mapping[str, GQAQuestion], gqa_file: str
) -> dict[str, tuple[str, str]]:
    """
    Reads LLaVA's question file, `{"question_id", "image", "text"}`.

    Args:
        file (`str` or `Path`):
            The file.
        data (`Mapping[str, GQAQuestion]`):
            What [`read_gqa_file`] gives.
        gqa_file (`str`):
            Where that is from, for messages.

    Returns:
        `dict[str, tuple[str, str]]`: from id to image and text as it is asked.

    Raises:
        ValueError: a question has no answer in the data; they are counted, and the first is named.
    """
    path = Path(file)
    entries = read_entries(path, "`gqa_questions`")
    check_entries(path, entries, ("question_id", "image", "text"))
    asked = {str(entry["question_id"]): (str(entry["image"]), str(entry["text"])) for entry in entries}
    unknown = [id_ for id_ in asked if id_ not in data]
    if unknown:
        raise ValueError(
            f"`gqa_questions` ({path}) has {len(unknown)} questions that `gqa_file` ({gqa_file}) has not, the first "
            f"{unknown[0]}: give files of one split."
        )
    return asked


def _first(entry: Mapping[str, Any], *names: str) -> Any:
    return next((entry[name] for name in names if entry.get(name) is not None), None)
