"""JSON files in the style of COCO's, read with errors that name the file, the entry and the cure."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path


SECTIONS = {"instances": ("images", "annotations", "categories"), "captions": ("images", "annotations")}


class CocoFile:
    """
    One such file.

    Args:
        path (`str` or `Path`):
            The file.
        kind (`str`):
            `"instances"` or `"captions"`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no JSON.
    """

    def __init__(self, path: str | Path, kind: str):
        self.path, self.kind = Path(path), kind
        if not self.path.is_file():  # or a pipe, which might never end
            raise FileNotFoundError(f"There is no annotation file at {path}: give a COCO-style {kind} JSON.")
        try:
            self.data = json.loads(self.path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"{path} is not a JSON file in UTF-8 ({error}): give a COCO-style {kind} JSON."
            ) from error

    def entries(self, section: str, *keys: str) -> Iterator[tuple]:
        """The values of some keys, of each entry of a section."""
        entries = self.data.get(section) if isinstance(self.data, dict) else None
        if not isinstance(entries, list):
            has = ", ".join(f"`{name}`" for name in SECTIONS[self.kind])
            raise ValueError(f"{self.path} has no list `{section}`: a COCO-style {self.kind} JSON has {has}.")
        for index, entry in enumerate(entries):
            values = tuple(entry.get(key) if isinstance(entry, dict) else None for key in keys)
            if not all(isinstance(value, (str, int)) for value in values):
                raise ValueError(
                    f"{self.path}: `{section}[{index}]` needs {' and '.join(keys)}, got {str(entry)[:200]}."
                )
            yield values

    def files(self) -> dict:
        """From the `id` of each image to its `file_name`, in the order of the file."""
        files = dict(self.entries("images", "id", "file_name"))
        if len(set(files.values())) < len(self.data["images"]):
            raise ValueError(f"{self.path}: two entries of `images` share an `id` or a `file_name`: keep one of them.")
        return files

    def check_id(self, index: int, key: str, value: str | int, known: Mapping, section: str) -> None:
        """Refuses an annotation whose id is that of no entry of a section."""
        if value not in known:
            raise ValueError(
                f"{self.path}: `annotations[{index}]` has `{key}` {value!r}, which no entry of `{section}` has as its "
                "`id`: add that entry or remove the annotation."
            )
