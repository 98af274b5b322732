"""Images by their names: files of one benchmark call them by id, by file or by path, and ask several times of one."""

import re
from collections.abc import Callable, Iterable, Sequence


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


def sums_per_image(images: Sequence[str], counts: Iterable[int], order: Iterable[str] | None = None) -> list[int]:
    """
    Sums the counts of the questions about each image.

    Args:
        images (`Sequence[str]`):
            Image of each question.
        counts (`Iterable[int]`):
            Count of each question.
        order (`Iterable[str]`, *optional*):
            All images there are, in the order of the sums; by default as they come.

    Returns:
        `list[int]`
    """
    sums = dict.fromkeys(images if order is None else order, 0)
    for image, count in zip(images, counts, strict=True):
        sums[image] += count
    return list(sums.values())


def _id(name: str) -> str:
    match = COCO_FILE.fullmatch(name.replace("\\", "/").rpartition("/")[2])
    return match[1] if match else name
