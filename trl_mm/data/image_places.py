"""
Where images that a dataset names, but does not include, usually lie in a folder of images.

Rows name one picture of COCO as `COCO_train2014_000000000009.jpg`, `train2017/000000000009.jpg` or
`./data/coco/000000000009.jpg`, depending on whose disk they come from.
"""

import os
import re
from pathlib import Path


# The number of a COCO image is the same in the splits of 2014 and of 2017
_COCO = re.compile(r"(?:COCO_(?:train|val)2014_)?(\d{12}\.jpg)")
_COCO_PREFIXES = ("", "COCO_train2014_", "COCO_val2014_")
_COCO_FOLDERS = ("", "train2014", "train2017", "val2014", "val2017")
_GENOME = re.compile(r"\d{1,7}\.jpg")
_GENOME_FOLDERS = ("VG_100K", "VG_100K_2")


def usual_place(path: str, folder: str) -> str | None:
    """
    Find an image that is not at its path.

    - An image of COCO (12 digits) lies in the folder itself, in `train2014`, `train2017`, `val2014` or `val2017`, with
      or without `coco` above, and with or without `COCO_train2014_` before its number.
    - One of Visual Genome (up to 7 digits) lies in `VG_100K` or `VG_100K_2`, with or without `vg` above.
    - One with a path from elsewhere, such as `data/images/a.jpg`, is looked for at the end of its path,
      `images/a.jpg`; as `a.jpg` only if the folder is named as the one in the path, or if the name is no mere number,
      which others may have, too.

    Args:
        path (`str`): relative path that a row names.
        folder (`str`): absolute path of the folder with all images.

    Returns:
        `str` or `None`: absolute path of a file in the folder.
    """
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not parts or ".." in parts or os.path.isabs(path):
        return None
    return next(
        (found for place in _places(parts, folder) if os.path.isfile(found := os.path.join(folder, place))), None
    )


def _places(parts: list[str], folder: str) -> list[str]:
    name = parts[-1]
    places = ["/".join(parts[start:]) for start in range(1, len(parts) - 1)]
    if coco := _COCO.fullmatch(name):
        names = [name, *(prefix + coco[1] for prefix in _COCO_PREFIXES)]
        return places + [
            os.path.join(above, below, name) for above in ("", "coco") for below in _COCO_FOLDERS for name in names
        ]
    if _GENOME.fullmatch(name):
        places += [os.path.join(above, below, name) for above in ("", "vg") for below in _GENOME_FOLDERS]
    is_named_alike = len(parts) > 1 and Path(folder).name == parts[-2]
    if is_named_alike or not Path(name).stem.isdigit():
        places.append(name)
    return places
