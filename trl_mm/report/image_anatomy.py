"""What the images of a dataset are: how many, how large, which ones are alike."""

from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from ..data.images import ImageError, image_size, open_image
from ..data.tables import raw_rows


ALIKE = 4  # of the 64 bits of a perceptual hash may differ between two versions of a picture

_BATCH = 64
_HASH_PIXELS = 128  # longest side that a picture is shrunk to before it is hashed


@dataclass
class ImageAnatomy:
    """
    The images of a dataset.

    Attributes:
        of_rows (`list[tuple[str, ...]]`): for each row digests of the files of its images.
        sizes (`dict[str, tuple[int, int]]`): `(height, width)` in pixels, by digest.
        tokens (`dict[str, int]`): tokens that an image takes, by digest, where a processor is known.
        hashes (`dict[str, int]`): perceptual hash (64 bits), by digest, where they were asked for.
        unreadable (`int`): images that are no images or not there.
    """

    of_rows: list[tuple[str, ...]] = field(default_factory=list)
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)
    hashes: dict[str, int] = field(default_factory=dict)
    unreadable: int = 0

    @property
    def rows_of_images(self) -> Counter:
        """Rows by image."""
        return Counter(digest for row in self.of_rows for digest in set(row))

    @property
    def distinct(self) -> int:
        """Images whose files differ."""
        return len(self.rows_of_images)


def image_anatomy(
    stored: Dataset,
    count_tokens: Callable[[tuple[int, int]], int] | None = None,
    hash_images: bool = False,
) -> ImageAnatomy:
    """
    Look at the images of a dataset, each file once.

    Args:
        stored (`datasets.Dataset`): rows whose images are not decoded.
        count_tokens (`Callable`, *optional*): from `(height, width)` to the tokens of an image.
        hash_images (`bool`, *optional*, defaults to `False`): whether to decode every image for its perceptual hash.

    Returns:
        [`ImageAnatomy`]

    Raises:
        ImportError: imagehash is missing.
    """
    result = ImageAnatomy()
    seen: dict[str, str] = {}  # digest by path
    table = stored.select_columns(["images"]).with_format("arrow")
    with ThreadPoolExecutor(4) as pool:
        for start in range(0, len(stored), _BATCH):
            rows = [row["images"] or [] for row in raw_rows(table[start : start + _BATCH], table.features)]
            images = [image for row in rows for image in row]
            digests = iter(list(pool.map(lambda image: _digest(image, seen), images)))
            result.of_rows += [tuple(next(digests) for _ in row) for row in rows]
            flat = [digest for row in result.of_rows[-len(rows) :] for digest in row]
            new = {digest: image for digest, image in zip(flat, images, strict=True) if digest not in result.sizes}
            for digest, (size, hashed) in zip(
                new, pool.map(lambda image: _look(image, hash_images), new.values()), strict=True
            ):
                if size is None:
                    result.unreadable += 1
                    continue
                result.sizes[digest] = size
                if hashed is not None:
                    result.hashes[digest] = hashed
    if count_tokens is not None:
        by_size = {size: count_tokens(size) for size in set(result.sizes.values())}
        result.tokens = {digest: by_size[size] for digest, size in result.sizes.items()}
    return result


def perceptual_hash(image: Any) -> int:
    """
    Hash of what a picture shows (64 bits), by the package imagehash (pHash): versions of a picture in another size or
    format have nearly the same.

    Args:
        image (`PIL.Image.Image`): the picture.

    Raises:
        ImportError: imagehash is missing.
    """
    try:
        import imagehash
    except ImportError as error:
        raise ImportError(
            "Finding images that are alike needs imagehash; install it with `pip install trl-mm[report]`."
        ) from error

    return int(str(imagehash.phash(image)), 16)


def hashes_of_folder(folder: str | Path) -> dict[str, int]:
    """Perceptual hashes of all pictures in a folder and its folders, by relative path; other files are passed over."""
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}: name one with images.")
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            found[str(path.relative_to(folder))] = perceptual_hash(open_image(path))
        except (ImageError, ValueError):
            continue
    return found


def alike(left: Mapping[str, int], right: Mapping[str, int], most: int = ALIKE) -> dict[str, str]:
    """
    Which pictures show the same.

    Args:
        left, right (`Mapping[str, int]`): perceptual hashes by name.
        most (`int`, *optional*, defaults to `4`): bits in which two hashes of one picture may differ.

    Returns:
        `dict[str, str]`: from each name of `left` to one of `right` that shows the same, where there is one.
    """
    if not left or not right:
        return {}
    names, others = list(right), np.array(list(right.values()), dtype=np.uint64)
    found = {}
    for name, value in left.items():
        distances = np.bitwise_count(others ^ np.uint64(value))
        nearest = int(distances.argmin())
        if distances[nearest] <= most:
            found[name] = names[nearest]
    return found


def _digest(image: Mapping[str, Any], seen: dict[str, str]) -> str:
    path, content = str(image.get("path")), image.get("bytes")
    if content is not None:
        return blake2b(content, digest_size=16).hexdigest() if content else f"missing {path}"
    if path not in seen:
        try:
            seen[path] = blake2b(Path(path).read_bytes(), digest_size=16).hexdigest()
        except OSError:
            seen[path] = f"missing {path}"
    return seen[path]


def _look(image: Mapping[str, Any], hash_images: bool) -> tuple[tuple[int, int] | None, int | None]:
    try:
        size = image_size(image)
        if not hash_images:
            return size, None
        picture = open_image(image)
        picture.thumbnail((_HASH_PIXELS, _HASH_PIXELS))
        return size, perceptual_hash(picture)
    except (ImageError, ValueError, OSError):
        return None, None
