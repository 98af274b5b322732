"""Which datasets have been checked, so that a command and its trainer do not both decode every image."""

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

from datasets import Dataset


# Dataset to its fingerprint when it was checked, the columns that its rows have, and whether images were decoded.
# `map`, `select` and the like return another dataset, and what changes one in place gives it another fingerprint.
_CHECKED: WeakKeyDictionary[Dataset, tuple[str, Sequence[str], bool]] = WeakKeyDictionary()


def mark_checked(dataset: Dataset, needs: Sequence[str], images_decoded: bool) -> None:
    """Remember that every row of a dataset has been checked, for the columns that it `needs`."""
    _CHECKED[dataset] = dataset._fingerprint, tuple(needs), images_decoded


def is_checked(dataset: Any, needs: Sequence[str], check_images: bool) -> bool:
    """Whether a dataset has been checked as it is now, for all these columns and, if asked for, its images."""
    if not isinstance(dataset, Dataset) or dataset not in _CHECKED:
        return False
    fingerprint, columns, images_decoded = _CHECKED[dataset]
    return fingerprint == dataset._fingerprint and {*needs} <= {*columns} and (images_decoded or not check_images)
