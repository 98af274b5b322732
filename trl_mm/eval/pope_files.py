"""Questions of POPE as they are published, in any of the formats in use."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path


def read_pope_files(paths: Sequence[str | Path]) -> list[dict[str, str]]:
    """
    Reads published questions, as JSON lines or as one JSON array, whatever the file is called:

    ```
    {"image": "COCO_val2014_000000310196.jpg", "text": "Is there a dog in the image?", "label": "yes"}   POPE, RePOPE
    {"image_name": "/images/000000046207.jpg", "query": "Is there a dog in the image?", "label": "No"}   POPEv2
    ```

    A file is one category, named as the file is, unless its rows have a `category`.

    Args:
        paths (`Sequence[str | Path]`):
            The files.

    Returns:
        `list[dict[str, str]]`: rows with `image`, `question`, `label` (`"yes"` or `"no"`) and `category`. POPEv2's
        paths of images have no leading slash: they start from the image folder.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: an entry has another format or two files share a category; the message names the file, the place
            in it and the cure.
    """
    found: list[dict[str, str]] = []
    origin: dict[str, Path] = {}
    for path in map(Path, paths):
        rows = _read(path)
        for category in dict.fromkeys(row["category"] for row in rows):
            if category in origin:
                raise ValueError(
                    f"{origin[category]} and {path} both have questions of the category {category!r}: give one of "
                    "them, or rename a file, as a category without a name of its own is named by its file."
                )
            origin[category] = path
        found += rows
    return found


def with_suffix(question: str, suffix: str | None) -> str:
    """The question (`str`) with the suffix on a line of its own, unless it is there already."""
    return question if not suffix or question.endswith(f"\n{suffix}") else f"{question}\n{suffix}"


def _read(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        raise FileNotFoundError(f"There is no POPE file at {path}: give one of the published files.")
    rows = [_row(path, place, entry) for place, entry in _entries(path)]
    if not rows:
        raise ValueError(f"{path} holds no question: give one of the published files.")
    return rows


def _entries(path: Path) -> Iterator[tuple[str, object]]:
    """Entries of a JSON array or of JSON lines, each with its place in the file."""
    text = path.read_text(encoding="utf-8")
    if text.lstrip().startswith("["):
        try:
            entries = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path} starts as a JSON array and is none ({error}): download it again.") from error
        yield from ((f"entry {number}", entry) for number, entry in enumerate(entries, start=1))
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):
                entry = line  # refused with its place, as whatever is no object is
            yield f"line {number}", entry


def _row(path: Path, place: str, entry: object) -> dict[str, str]:
    entry = entry if isinstance(entry, dict) else {"": entry}
    names = ("image_name", "query") if "image_name" in entry else ("image", "text")
    image, question, label = (entry.get(name) for name in (*names, "label"))
    if not (isinstance(image, str) and isinstance(question, str) and isinstance(label, str)):
        raise ValueError(
            f"{path}, {place}: needs a JSON object with `image`, `text` and `label`, or as POPEv2 `image_name`, "
            f"`query` and `label`, got {str(entry.get('', entry))[:200]!r}. (LLaVA's llava_pope_test.jsonl has no "
            "labels: give POPE's own files, and LLaVA's suffix as `pope_suffix`.)"
        )
    if label.lower() not in ("yes", "no"):
        raise ValueError(f"{path}, {place}: `label` must be yes or no, got {label!r}.")
    return {
        "image": image.lstrip("/") if names[0] == "image_name" else image,
        "question": question,
        "label": label.lower(),
        "category": str(entry.get("category", path.stem)),
    }
