"""MME's folders: of questions, and of answers."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data.shown import shown
from .answer_files import check_entries
from .answer_ids import check_ids, entry_answer


PERCEPTION = (
    "existence",
    "count",
    "position",
    "color",
    "posters",
    "celebrity",
    "scene",
    "landmark",
    "artwork",
    "OCR",
)
COGNITION = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")
TASKS = (*PERCEPTION, *COGNITION)
IMAGES = (".jpg", ".png", ".jpeg")
PLEASE = "Please answer yes or no."


def read_mme_data(folder: str | Path) -> list[dict[str, str]]:
    """
    Reads the questions of the release: for each task a folder with an image and a text file of the same name, beside
    each other or in `images` and `questions_answers_YN`. Each of the two lines is a question, a tab and yes or no.

    Args:
        folder (`str` or `Path`):
            `MME_Benchmark_release_version`.

    Returns:
        `list[dict[str, str]]`: rows with `task`, `image` (relative to the folder), `question` and `label`.

    Raises:
        FileNotFoundError: there is no such folder, no task in it, or no image to a text file.
        ValueError: a line is not as described; the message names file and line.
    """
    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(f"`mme_data` ({root}) is no folder: name MME_Benchmark_release_version.")
    rows = [row for task in TASKS for row in _task_rows(root, task)]
    if not rows:
        raise FileNotFoundError(f"`mme_data` ({root}) has no folder of a task of MME, such as {root / TASKS[0]}.")
    return rows


def read_mme_results(folder: Path) -> tuple[list[dict[str, str]], list[str]]:
    """
    Reads answers as the authors' `calculation.py` does: in `TASK.txt` the lines of an image follow one another, each
    with image, question, label and answer, and tabs between them. Tasks without a file are left out, as there.

    Args:
        folder (`Path`):
            The folder.

    Returns:
        `tuple[list[dict[str, str]], list[str]]`: rows with `task`, `image`, `label` and `pair`, and the answers.

    Raises:
        FileNotFoundError: there is no file of a task.
        ValueError: a line is not as described; the message names file and line.
    """
    rows, answers = [], []
    for task in TASKS:
        path = folder / f"{task}.txt"
        if not path.is_file():
            continue
        fields = list(_fields(path, 4, "image, question, yes or no, and answer"))
        if not fields or len(fields) % 2:
            raise ValueError(f"{path} has {len(fields)} answers: MME has two for each image. Complete the file.")
        for number, (image, _, label, answer) in enumerate(fields):
            other = fields[number - 1 if number % 2 else number + 1][0]
            if image != other:
                raise ValueError(
                    f"{path}: line {number + 1} is of {shown(image, 100)}, and the one that goes with it of "
                    f"{shown(other, 100)}: the two lines of an image must follow one another."
                )
            where = f"{path}, line {number + 1}"
            rows.append(
                {"task": task, "image": image, "label": mme_label(label, where), "pair": f"{task} {number // 2}"}
            )
            answers.append(answer)
    if not rows:
        raise FileNotFoundError(f"`answers` ({folder}) has no file of a task of MME, such as {TASKS[0]}.txt.")
    return rows, answers


def read_llava_answers(
    path: Path, entries: Sequence[Any], data: Sequence[Mapping[str, str]], folder: str
) -> tuple[list[dict[str, str]], list[str]]:
    """
    Reads LLaVA's answers, `{"question_id": "TASK/IMAGE", "prompt", "text"}`, whose prompt is the question with another
    end.

    Args:
        path (`Path`):
            File of the answers.
        entries (`Sequence[Any]`):
            What is in it.
        data (`Sequence[Mapping[str, str]]`):
            What [`read_mme_data`] gives.
        folder (`str`):
            Where that is from, for messages.

    Returns:
        `tuple[list[dict[str, str]], list[str]]`: rows of `data`, and the answers.
    """
    check_entries(path, entries, ("question_id", "prompt", "text"))
    asked = {_key(row["image"], row["question"]): row for row in data}
    keys = [_key(str(entry["question_id"]), str(entry["prompt"])) for entry in entries]
    check_ids(path, keys, asked, folder, "data")
    answers = [entry_answer(path, number, entry, ("text",)) for number, entry in enumerate(entries, start=1)]
    return [dict(asked[key]) for key in keys], answers


def mme_label(label: Any, where: str) -> str:
    """A label (`str`), yes or no."""
    if str(label).strip().lower() not in ("yes", "no"):
        raise ValueError(f"{where}: the label must be yes or no, got {shown(repr(label), 100)}.")
    return str(label).strip().lower()


def _task_rows(root: Path, task: str) -> Iterator[dict[str, str]]:
    texts = root / task / "questions_answers_YN"
    texts = texts if texts.is_dir() else root / task
    images = root / task / "images"
    images = images if images.is_dir() else root / task
    for path in sorted(texts.glob("*.txt")):
        image = next(filter(Path.is_file, (images / f"{path.stem}{end}" for end in IMAGES)), None)
        if image is None:
            raise FileNotFoundError(f"{path} has no image {path.stem}.jpg or .png in {images}.")
        for number, (question, label) in enumerate(_fields(path, 2, "question, and yes or no"), start=1):
            label = mme_label(label, f"{path}, line {number}")
            yield {"task": task, "image": image.relative_to(root).as_posix(), "question": question, "label": label}


def _fields(path: Path, count: int, what: str) -> Iterator[list[str]]:
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), start=1):
        if line.strip():
            fields = line.removesuffix("\r").split("\t")
            if len(fields) != count:
                got = shown(line, 200)
                raise ValueError(f"{path}, line {number}: needs {what}, with tabs between them, got {got}.")
            yield fields


def _key(image: str, question: str) -> tuple[str, str, str]:
    """Task, name of the image, and the question without its end."""
    question = question.replace(PLEASE, " ").split("\nAnswer the question using", 1)[0]
    return image.split("/")[0], Path(image).stem, re.sub(r"\s+", " ", question).strip()
