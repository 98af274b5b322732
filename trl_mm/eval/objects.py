"""What an image holds. How a text names it is in `data/object_vocabulary.py`; CHAIR and POPE are built on both."""

from pathlib import Path

from ..data.object_vocabulary import COCO_SYNONYMS, Mention, ObjectVocabulary
from .coco_json import CocoFile


__all__ = ["COCO_SYNONYMS", "Mention", "ObjectVocabulary", "load_annotations"]


def load_annotations(path: str | Path) -> dict[str, set[str]]:
    """
    Reads which objects each image holds, from a JSON file in the style of COCO's `instances_val2014.json`: `images`
    with `id` and `file_name`, `categories` with `id` and `name`, `annotations` with `image_id` and `category_id`.

    Args:
        path (`str` or `Path`):
            The JSON file.

    Returns:
        `dict[str, set[str]]`:
            From the file name of each image, in the order of the file, to the names of its objects. An image without
            annotations has an empty set.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file has another format; the message names the file, the entry and the cure.
    """
    coco = CocoFile(path, "instances")
    names, files = dict(coco.entries("categories", "id", "name")), coco.files()
    objects: dict[str, set[str]] = {file: set() for file in files.values()}
    for index, (image, category) in enumerate(coco.entries("annotations", "image_id", "category_id")):
        coco.check_id(index, "image_id", image, files, "images")
        coco.check_id(index, "category_id", category, names, "categories")
        objects[files[image]].add(names[category])
    return objects
