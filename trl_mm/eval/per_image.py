"""Counts of answers, summed for each image: several questions about one image are no independent draws."""

from collections.abc import Hashable, Sequence


def sums_per_image(images: Sequence[Hashable], *columns: Sequence[float]) -> list[list[float]]:
    """
    Sums columns over the rows of each image.

    Args:
        images (`Sequence[Hashable]`):
            Image of each row, or whatever else belongs together.
        columns (`Sequence[float]`):
            Numbers of each row.

    Returns:
        `list[list[float]]`: for each column one sum per image, images in the order in which they come first.
    """
    place = {image: number for number, image in enumerate(dict.fromkeys(images))}
    sums = [[0.0] * len(place) for _ in columns]
    for total, column in zip(sums, columns, strict=True):
        for image, value in zip(images, column, strict=True):
            total[place[image]] += value
    return sums
