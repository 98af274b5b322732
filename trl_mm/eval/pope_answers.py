"""Answers to POPE that other tools have written, with their labels: in the same rows, or in the published files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..data.shown import shown
from .answer_files import as_answer, check_entries, read_entries
from .pope_files import read_pope_files


class Said(NamedTuple):
    """One answer: what was asked, where the file says so, the name of the image's file, the id, and the answer."""

    question: str | None
    image: str | None
    id: int | str | None
    answer: str


def read_labelled_answers(path: Path) -> tuple[list[dict[str, str]], list[str]]:
    """
    Reads rows that have their label: `{"answer": "Yes", "label": "yes", "category": "random", "image": "1.jpg"}`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a row lacks something; the message names it.
    """
    entries = read_entries(path)
    try:
        check_entries(path, entries, ("answer", "label"))
    except ValueError as error:
        raise ValueError(f"{error} (Labels may also come from the published questions: `--files FILE`.)") from error
    rows = []
    for number, entry in enumerate(entries, start=1):
        label = str(entry["label"]).strip().lower()
        if label not in ("yes", "no"):
            raise ValueError(f"{path}, entry {number}: `label` must be yes or no, got {entry['label']!r}.")
        image = entry.get("image", f"entry {number}")
        rows.append({"image": str(image), "label": label, "category": str(entry.get("category", "all"))})
    return rows, [as_answer(path, number, entry["answer"]) for number, entry in enumerate(entries, start=1)]


def read_answers_to_files(path: Path, files: Sequence[str | Path]) -> tuple[list[dict[str, str]], list[str]]:
    """
    Reads answers to the questions of published files, which have the labels:

    ```
    {"question": "is there a bird in the image?", "answer": "yes"}                  what POPE's script reads
    {"question_id": 1, "prompt": "Is there a bird ...", "text": "Yes", ...}         what LLaVA writes
    ```

    They are in the order of the questions, as those scripts want them, or have a `question_id` each; the files may be
    in any order. Questions, images and ids, where answers have them, must be those of the files.

    Args:
        path (`Path`):
            The answers.
        files (`Sequence[str | Path]`):
            Files as [`read_pope_files`] reads them.

    Returns:
        `tuple[list[dict[str, str]], list[str]]`: rows as [`read_pope_files`] gives them, and the answers.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the answers are not those to these questions; the message counts both and names the first that
            differs.
    """
    said = [_said(path, number, entry) for number, entry in enumerate(read_entries(path), start=1)]
    read_pope_files(files)  # refuses two files of one category
    blocks = [list(zip(read_pope_files([file]), _ids(Path(file)), strict=True)) for file in files]
    asked = sum(map(len, blocks))
    if len(said) != asked:
        raise ValueError(
            f"{path} has {len(said)} answers, and `files` have {asked} questions ({', '.join(map(str, files))}). Give "
            "the files that were asked, such as the version of coco_pope_random.json with 2,910 or with 3,000."
        )
    joined = _in_order(said, blocks)
    if joined is None and len({one.id for one in said}) == asked and all(isinstance(one.id, int) for one in said):
        said = sorted(said, key=lambda one: int(one.id or 0))
        joined = _in_order(said, blocks)
    if joined is None:
        rows = [row for block in blocks for row in block]
        number = next(index for index, pair in enumerate(zip(said, rows, strict=True)) if not _fits(*pair))
        raise ValueError(
            f"{path} does not answer the questions of `files` in their order: answer {number + 1} is to "
            f"{shown(str(said[number][:3]), 200)}, the question is {shown(str(tuple(rows[number][0].values())), 200)}."
        )
    return joined, [one.answer for one in said]


def _said(path: Path, number: int, entry: Any) -> Said:
    if not isinstance(entry, Mapping):
        raise ValueError(f"{path}, entry {number}: needs an object with `answer`, got {shown(str(entry), 200)}")
    key = next((key for key in ("answer", "response", "text") if key in entry), "answer")
    names = ("question", "prompt", "query", *(["text"] if key != "text" else []))
    question = next((entry[name] for name in names if isinstance(entry.get(name), str)), None)
    image, answer = entry.get("image"), as_answer(path, number, entry.get(key), key)
    return Said(question, _name(image) if isinstance(image, str) else None, entry.get("question_id"), answer)


def _ids(file: Path) -> list[Any]:
    return [entry.get("question_id") for entry in read_entries(file, "`files`")]


def _in_order(said: Sequence[Said], blocks: Sequence[list[tuple[dict[str, str], Any]]]) -> list[dict[str, str]] | None:
    """The rows in the order of the answers, taking the file next whose questions come next; `None` where none do."""
    left: list[list[tuple[dict[str, str], Any]]] = list(blocks)
    rows: list[dict[str, str]] = []
    while left:
        after = said[len(rows) :]
        block = next((block for block in left if all(map(_fits, after, block))), None)
        if block is None:
            return None
        left.remove(block)
        rows += [row for row, _ in block]
    return rows


def _fits(said: Said, asked: tuple[Mapping[str, str], Any]) -> bool:
    row, number = asked
    if said.image is not None and said.image != _name(row["image"]):
        return False
    if said.question is None:
        return said.id is None or said.id == number
    return row["question"].lower() in said.question.lower()


def _name(image: str) -> str:
    return image.replace("\\", "/").rpartition("/")[2]
