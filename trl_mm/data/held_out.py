"""
A held-out split that shares no image with the rows to train on.

The side of an image is decided by a hash of its file, so it is the same in every run, in every dataset that has the
image, and for every row that shows it; a larger share contains the smaller ones.
"""

import hashlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any


SIDES = ("train", "test")
ON_BOTH_SIDES = "images on both sides of the split"


def side_of(row: dict[str, Any], test_share: float) -> str | None:
    """
    Side of a row.

    Args:
        row (`dict[str, Any]`): row of the format, images as they are stored.
        test_share (`float`): share of the images that are held out. Rows with images shared by few others get about
            this share.

    Returns:
        `str` or `None`: `"train"` or `"test"`; `None` if it has images of both. A row without images goes by its
            prompt.
    """
    digests = [_image_digest(image) for image in row["images"]]
    if not digests:
        digests = [hashlib.sha256(repr(row["prompt"]).encode(errors="replace")).digest()]
    sides = {SIDES[int.from_bytes(digest[:8]) < test_share * 2**64] for digest in digests}
    return sides.pop() if len(sides) == 1 else None


def _image_digest(image: dict[str, Any]) -> bytes:
    if image["bytes"] is not None:
        return hashlib.sha256(image["bytes"]).digest()
    return _file_digest(image["path"])


def _digest_of_file(path: str) -> bytes:
    return hashlib.sha256(Path(path).read_bytes()).digest()


# Bounded: a dataset may name millions of files. Rows of one image often stand together
_file_digest: Callable[[str], bytes] = lru_cache(maxsize=100_000)(_digest_of_file)
