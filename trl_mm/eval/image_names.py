"""Which names are of one image: files of one benchmark call it by its id, by its file or by its path."""

import re
from collections.abc import Callable, Iterable


COCO_FILE = re.compile(r"(?:COCO_[A-Za-z]+\d+_)?0*(\d+)(?:\.\w+)?")


def image_finder(names: Iterable[str]) -> Callable[[str], str | None]:
    """
    Finds an image by another of its names: `"391895"` and `"val2014/COCO_val2014_000000391895.jpg"` are one image.

    Args:
        names (`Iterable[str]`):
            Names of images.

    Returns:
        `Callable[[str], str | None]`: from any name to the one of these that is the same image: itself, or the only
        one with its COCO id; `None` where there is none, or several.
    """
    exact = dict.fromkeys(names)
    by_id: dict[str, str | None] = {}
    for name in exact:
        key = _id(name)
        by_id[key] = None if key in by_id else name
    return lambda image: image if image in exact else by_id.get(_id(image))


def _id(name: str) -> str:
    match = COCO_FILE.fullmatch(name.replace("\\", "/").rpartition("/")[2])
    return match[1] if match else name
