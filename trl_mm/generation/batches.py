"""Which requests go through the model together: those of similar length, as many as fit."""

from collections.abc import Iterable, Sequence

from .decoding import SamplingSettings
from .prompts import Request


def batches(
    groups: Iterable[list[int]], lengths: Sequence[tuple[int, int]], settings: SamplingSettings
) -> list[list[list[int]]]:
    """
    Split groups of requests, which are not torn apart, into batches that `settings` allow.

    Args:
        groups (`list[list[int]]`): numbers of requests.
        lengths (`list` of pairs of `int`): tokens of each request in its prompt, and in all that follows. Each part is
            padded to the longest of its batch.
        settings ([`SamplingSettings`]): `batch_size` and `max_batch_tokens` bound a batch. A group that alone is more
            than that is a batch of its own.

    Returns:
        `list[list[list[int]]]`: groups of each batch, short ones first, so that padding stays small.
    """
    found: list[list[list[int]]] = []
    batch: list[list[int]] = []
    rows, widest = 0, (0, 0)
    for group in sorted(groups, key=lambda group: max(sum(lengths[index]) for index in group)):
        together = rows + len(group)
        wider = tuple(map(max, zip(widest, *(lengths[index] for index in group), strict=True)))
        if batch and (together > settings.batch_size or together * sum(wider) > settings.max_batch_tokens):
            found.append(batch)
            batch, together = [], len(group)
            wider = tuple(map(max, zip(*(lengths[index] for index in group), strict=True)))
        batch.append(group)
        rows, widest = together, wider
    return [*found, batch] if batch else found


def same_prompts(requests: Sequence[Request]) -> list[list[int]]:
    """Numbers (`list[list[int]]`) of requests that show the same of the same prompt, if it ends in text."""
    groups: dict[int | tuple[int, int], list[int]] = {}
    for index, request in enumerate(requests):
        key = index if request.prompt.is_image[-1] else (id(request.prompt), id(request.visible))
        groups.setdefault(key, []).append(index)
    return list(groups.values())
