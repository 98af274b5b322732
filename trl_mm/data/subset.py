"""Which rows of a dataset are used if not all are: the first, a random subset, or in a mixture a share of them."""

import heapq
from collections.abc import Sequence

from .seeds import derived_seed


MOST_COPIES = 100  # of a row, in a mixture


def check_subset(max_rows: int | None, shuffle_seed: int | None, streaming: bool = False) -> None:
    """
    Refuse settings that name no subset.

    Args:
        max_rows (`int`, *optional*):
            Number of rows.
        shuffle_seed (`int`, *optional*):
            Seed of a random subset.
        streaming (`bool`, *optional*, defaults to `False`):
            Whether rows are read as they come.

    Raises:
        ValueError: there would be no row, `shuffle_seed` would do nothing, or all rows would have to be known.
    """
    if max_rows is not None and max_rows < 1:
        raise ValueError(f"`max_rows` must be at least 1, got {max_rows}.")
    if shuffle_seed is None:
        return
    if max_rows is None:
        raise ValueError(
            f"`shuffle_seed` ({shuffle_seed}) would do nothing: all rows are used. Pass `max_rows`, the size of the "
            "random subset, or leave it out."
        )
    if streaming:
        raise ValueError(
            f"`shuffle_seed` ({shuffle_seed}) draws from all rows, and `streaming` reads them as they come. Leave out "
            "`streaming`, or `shuffle_seed` to use the first rows."
        )


def subset_positions(num_rows: int, max_rows: int | None = None, shuffle_seed: int | None = None) -> Sequence[int]:
    """
    Positions of the rows to use, in their order in the dataset.

    Args:
        num_rows (`int`):
            Number of rows of the dataset.
        max_rows (`int`, *optional*):
            Number of rows to use, all by default.
        shuffle_seed (`int`, *optional*):
            Draw a random subset with this seed instead of taking the first rows. It depends on positions alone, so it
            is the same in every process and on every machine, and larger subsets contain the smaller ones.

    Returns:
        `Sequence[int]`:
            Positions, rising. Trainers shuffle the rows themselves, so a subset need not.

    Raises:
        ValueError: as in [`check_subset`].
    """
    check_subset(max_rows, shuffle_seed)
    if max_rows is None or max_rows >= num_rows:
        return range(num_rows)
    if shuffle_seed is None:
        return range(max_rows)
    return sorted(heapq.nsmallest(max_rows, range(num_rows), lambda row: derived_seed("subset", shuffle_seed, row)))


def check_weight(weight: float) -> None:
    """Raise a `ValueError` if the weight of a dataset draws nothing, or repeats rows more often than anybody means."""
    if not 0 < weight <= MOST_COPIES:
        raise ValueError(
            f"`weight` must be above 0 and at most {MOST_COPIES}, got {weight}. It is the share of the rows that is "
            "drawn: 0.5 for half of them, 2 for each of them twice."
        )
