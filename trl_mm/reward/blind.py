"""Rows with the images of other rows: a reward model that scores them as well reads the text only."""

import random
from typing import Any

from datasets import Dataset, concatenate_datasets

from ..data.fingerprints import image_digest
from ..data.tables import undecoded


def with_exchanged_images(dataset: Dataset, seed: int = 0) -> Dataset:
    """
    Give each row the images of another row that has as many, other ones.

    Args:
        dataset (`datasets.Dataset`): rows.
        seed (`int`, *optional*, defaults to `0`): which ones derives from it.

    Returns:
        `datasets.Dataset`: the rows that have images and a partner, with the partner's images. Every row with images
        has one, unless more than half of those with as many show the same.

    Raises:
        ValueError: no two rows have as many images, other ones.
    """
    stored = undecoded(dataset)
    known: dict[str, str] = {}
    groups: dict[int, list[int]] = {}
    shown: dict[int, tuple[str, ...]] = {}  # what a row shows, by content: one picture may have many rows
    for index, images in enumerate(stored["images"]):
        if images:
            groups.setdefault(len(images), []).append(index)
            shown[index] = tuple(image_digest(image, known) for image in images)
    partner: dict[int, int] = {}
    for group in groups.values():
        random.Random(seed).shuffle(group)
        partner |= exchanged({index: shown[index] for index in group})
    if not partner:
        raise ValueError(
            "No two rows have as many images, other ones, so none can be exchanged. Evaluate on more rows, or "
            "without `blind_eval`."
        )
    kept = sorted(partner)
    images = stored.select([partner[index] for index in kept]).select_columns(["images"])
    others = stored.select(kept).remove_columns("images")
    return concatenate_datasets([images, others], axis=1)


def exchanged(shown: dict[int, Any]) -> dict[int, int]:
    """
    A partner for each row that shows something else.

    Args:
        shown (`dict[int, Any]`): what each row shows; the order of rows says which partner it gets.

    Returns:
        `dict[int, int]`: row to partner, each the partner of one at most. All rows have one, unless more than half
        show the same.
    """
    alike: dict[Any, list[int]] = {}
    for row, what in shown.items():
        alike.setdefault(what, []).append(row)
    rows = [row for group in alike.values() for row in group]
    step = max(map(len, alike.values()))  # as far on there is nothing of the same group
    partners = [*rows[step:], *rows[:step]]
    return {row: other for row, other in zip(rows, partners, strict=True) if shown[row] != shown[other]}
