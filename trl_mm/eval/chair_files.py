"""Captions and the objects of their images, in the files that CHAIR's scripts read."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data.shown import shown
from .answer_files import as_answer, read_entries
from .image_names import image_finder
from .objects import load_annotations


CAPTION_KEYS = ("caption", "answer", "text")


def read_truths(path: str | Path) -> dict[str, set[str]]:
    """
    Reads which objects each image holds.

    ```
    {"391895": ["person", "motorcycle"], ...}                            an object of lists
    {"images": [...], "annotations": [...], "categories": [...]}         instances as those of COCO
    ```

    Args:
        path (`str` or `Path`):
            JSON file.

    Returns:
        `dict[str, set[str]]`: from image to the names of its objects.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it has another format; the message names the image.
    """
    cure = 'Write {"image": ["object", ...], ...} to it, or give a COCO-style JSON of instances.'
    truths = read_entries(Path(path), "`truths`")[0]
    if isinstance(truths, dict) and {"images", "annotations"} <= truths.keys():
        return load_annotations(path)
    if not isinstance(truths, dict):
        raise ValueError(f"`truths` ({path}) holds no JSON object. {cure}")
    for image, objects in truths.items():
        if not isinstance(objects, list) or not all(isinstance(name, str) for name in objects):
            raise ValueError(
                f"`truths` ({path}): image {shown(image, 100)!r} needs a list of names of objects, got "
                f"{shown(str(objects), 100)}. {cure}"
            )
    return {image: set(objects) for image, objects in truths.items()}


def read_captions(path: Path) -> list[tuple[str, str]]:
    """
    Reads captions.

    ```
    {"image_id": 391895, "caption": "A man on a motorcycle."}              rows, also `image`, `answer`, `text`
    {"overall": {...}, "imgToEval": {"391895": {"caption": ...}, ...}}     what the COCO caption code writes
    ```

    Args:
        path (`Path`):
            JSON lines, an array of rows, or the one object.

    Returns:
        `list[tuple[str, str]]`: image and caption.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a row lacks something; the message names it.
    """
    entries = read_entries(path)
    if len(entries) == 1 and isinstance(entries[0], Mapping) and isinstance(entries[0].get("imgToEval"), Mapping):
        entries = [_with_id(image, entry) for image, entry in entries[0]["imgToEval"].items()]
    if not entries:
        raise ValueError(f"{path} has no caption.")
    captions = []
    for number, entry in enumerate(entries, start=1):
        image = _first(entry, ("image_id", "image"))
        key = next((key for key in CAPTION_KEYS if _first(entry, (key,)) is not None), None)
        if not isinstance(image, (str, int)) or key is None:
            raise ValueError(
                f"{path}, entry {number}: needs `image` or `image_id`, and `caption`, `answer` or `text`, got "
                f"{shown(json.dumps(entry), 200)}"
            )
        captions.append((str(image), as_answer(path, number, entry[key], key)))
    return captions


def match_captions(
    path: Path, captions: Sequence[tuple[str, str]], truths: Mapping[str, set[str]]
) -> list[dict[str, Any]]:
    """
    Rows of captions with the objects of their images. Images of the truths that have no caption are left out: files
    of truths are of all images that there are, captions of some hundred of them.

    Raises:
        ValueError: images of captions are not in the truths; the message counts them, and those without a caption.
    """
    find = image_finder(truths)
    names = [find(image) for image, _ in captions]
    missing = [image for (image, _), name in zip(captions, names, strict=True) if name is None]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(captions)} captions in {path} are of images that `truths` do not have, such as "
            f"{shown(missing[0], 100)!r}; {len(truths.keys() - set(names))} images of `truths` have no caption. Give "
            "the truths of the same images."
        )
    return [{"image": name, "question": "", "truth": truths[name]} for name in names if name is not None]


def _with_id(image: str, entry: Any) -> Any:
    return {"image_id": image, **entry} if isinstance(entry, Mapping) else entry


def _first(entry: Any, keys: Sequence[str]) -> Any:
    return next((entry[key] for key in keys if isinstance(entry, Mapping) and entry.get(key) is not None), None)
