"""Meta files of MMPR and OmniAlign-V-DPO, which name files of annotations and the folders of their images."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Annotation(NamedTuple):
    """
    One file of annotations.

    Attributes:
        name (`str`): what the meta file calls it.
        file (`str`): its path as it is written, mostly from the folder of the dataset.
        image_root (`str`): folder that the paths of its images start from, written alike; `""` if there is none.
        repeat (`float`): how often its rows count in the original training; 1 if it is not said.
    """

    name: str
    file: str
    image_root: str
    repeat: float


def is_meta(value: Any) -> bool:
    """Whether the content of a JSON file is such a mapping and no row."""
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(entry, Mapping) and "annotation" in entry for entry in value.values())
    )


def object_kind(value: Mapping[str, Any]) -> str:
    """What a JSON object in the place of rows is, with the cure (`str`)."""
    if is_meta(value):
        return "a meta file, which names files of rows (`annotation`) and their images (`root`). Pass such a file."
    return "one JSON object, not rows. Write one object per line, or one list."


def mmpr_annotations(meta: Any) -> list[Annotation]:
    """
    Files that a meta file names.

    ```python
    {"m3cot_correctness": {"root": "MMPR-v1.2/images/M3CoT", "annotation": "MMPR-v1.2/annotations/m3cot.jsonl",
                           "data_augment": False, "repeat_time": 1, "length": 529}, ...}
    ```

    Args:
        meta (`dict`):
            Content of the file. Its paths may lead anywhere, and are not opened; who opens one keeps to a folder.

    Returns:
        `list[Annotation]`:
            In the order of the file.

    Raises:
        ValueError: it is no such mapping, or a path is no text.
    """
    if not is_meta(meta):
        raise ValueError(
            "A meta file must be an object of entries with `annotation` (a file of rows) and `root` (the folder of "
            f"their images), got {type(meta).__name__}. Pass the file of rows itself, or correct the meta file."
        )
    return [_annotation(name, entry) for name, entry in meta.items()]


def _annotation(name: str, entry: Mapping[str, Any]) -> Annotation:
    file, root, repeat = entry["annotation"], entry.get("root"), entry.get("repeat_time")
    if not isinstance(file, str) or not isinstance(root, str | None):
        raise ValueError(f"`annotation` and `root` of {name!r} must be paths. Correct the meta file.")
    return Annotation(name, file, root or "", float(repeat) if isinstance(repeat, int | float) else 1.0)
