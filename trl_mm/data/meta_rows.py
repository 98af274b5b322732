"""Rows of a dataset that is published as a meta file, which names files of annotations, such as MMPR's."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .converters.mmpr_meta import Annotation, is_meta, mmpr_annotations
from .json_rows import Damage, JSONRows
from .shown import shown


_LARGEST = 2**22  # bytes; MMPR's has 50 kB
# A text, or a comma before a closing bracket, as in MMPR's own file
_COMMA = re.compile(r'("(?:\\.|[^"\\])*")|,(?=\s*[}\]])')


class MetaRows:
    """
    Rows of the files that a meta file names, with paths of images that begin with the root of their file.

    Args:
        meta (`Path`): the meta file. What it names is looked for in its folder and nowhere else.
        annotations (`list[Annotation]`): what it names.
        damage (`str`, *optional*): what is wrong with it, though it can be read.
    """

    def __init__(self, meta: Path, annotations: list[Annotation], damage: str | None = None):
        self.meta, self.damage = meta, damage
        self.named = {_place(entry.file, meta.parent) or Path(entry.file): entry for entry in annotations}
        self.files = [*self.named]

    def values(self, file: Path) -> Iterator[Any]:
        """The rows of one file."""
        entry = self.named[file]
        if self.damage is not None and file == self.files[0]:
            yield Damage(self.damage, 0)
        if _place(entry.file, self.meta.parent) is None:
            missing = f"there is no annotation file {shown(entry.file)!r} in the folder of the meta file"
            yield Damage(f"{shown(str(self.meta), 1000)}: {missing} ({shown(entry.name)}). Put it there.")
            return
        for value in JSONRows([file], goes_on=True).values(file):
            yield _with_root(value, entry.image_root)


def read_meta(file: Path) -> MetaRows | None:
    """The rows of a meta file, `None` if this is none; raises a `ValueError` if it names no paths."""
    if file.suffix != ".json" or not file.is_file() or file.stat().st_size > _LARGEST:
        return None
    text = file.read_bytes().decode("utf-8-sig", errors="replace")
    mended = _COMMA.sub(lambda match: match[1] or "", text)
    try:
        meta = json.loads(mended)
    except (ValueError, RecursionError):
        return None
    if not is_meta(meta):
        return None
    comma = f"{shown(str(file), 1000)}: no JSON (a comma before the end of a list or an object). It is read without."
    return MetaRows(file, mmpr_annotations(meta), None if mended == text else comma)


def _place(path: str, folder: Path) -> Path | None:
    """File in the folder whose path ends as this one, which begins anywhere above."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts or os.path.isabs(path):
        return None
    places = (folder.joinpath(*parts[start:]) for start in range(len(parts)))
    found = next((place for place in places if place.is_file()), None)
    inside = found is not None and Path(os.path.realpath(found)).is_relative_to(os.path.realpath(folder))
    return found if inside else None


def _with_root(row: Any, root: str) -> Any:
    if not isinstance(row, dict) or not root:
        return row
    image = row.get("image")
    if isinstance(image, str):
        return {**row, "image": f"{root.rstrip('/')}/{image}"}
    if isinstance(image, list) and all(isinstance(path, str) for path in image):
        return {**row, "image": [f"{root.rstrip('/')}/{path}" for path in image]}
    return row
