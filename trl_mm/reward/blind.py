"""Rows with the images of other rows: a reward model that scores them as well reads the text only."""

import random

from datasets import Dataset, concatenate_datasets

from ..data.tables import undecoded


def with_exchanged_images(dataset: Dataset, seed: int = 0) -> Dataset:
    """
    Give each row the images of another row with as many.

    Args:
        dataset (`datasets.Dataset`): rows.
        seed (`int`, *optional*, defaults to `0`): which ones derives from it.

    Returns:
        `datasets.Dataset`: the rows that have images and a partner, with the partner's images.

    Raises:
        ValueError: no two rows have as many images.
    """
    stored = undecoded(dataset)
    groups: dict[int, list[int]] = {}
    for index, images in enumerate(stored["images"]):
        if images:
            groups.setdefault(len(images), []).append(index)
    partner: dict[int, int] = {}
    for group in groups.values():
        if len(group) > 1:
            random.Random(seed).shuffle(group)
            partner |= dict(zip(group, [*group[1:], group[0]], strict=True))
    if not partner:
        raise ValueError("No two rows have as many images, so none can be exchanged. Evaluate on more rows.")
    kept = sorted(partner)
    images = stored.select([partner[index] for index in kept]).select_columns(["images"])
    others = stored.select(kept).remove_columns("images")
    return concatenate_datasets([images, others], axis=1)
