"""Which requests go through the model together: those of similar length, as many as fit."""

from collections.abc import Iterable, Sequence
from typing import Any

from .prompts import Prompt, Request


def batches(groups: Iterable[list[int]], lengths: Sequence[tuple[int, int]], limits: Any) -> list[list[list[int]]]:
    """
    Split groups of requests, which are not torn apart, into batches that `limits` allow.

    Args:
        groups (`list[list[int]]`): numbers of requests.
        lengths (`list` of pairs of `int`): tokens of each request in its prompt, and in all that follows. Each part is
            padded to the longest of its batch.
        limits ([`~trl_mm.generation.batch_limits.BatchLimits`]): `batch_size` and `max_batch_tokens` bound a batch. A
            group that alone is more than that is a batch of its own.

    Returns:
        `list[list[list[int]]]`: groups of each batch, short ones first, so that padding stays small.
    """
    found: list[list[list[int]]] = []
    batch: list[list[int]] = []
    rows, widest = 0, (0, 0)
    for group in sorted(groups, key=lambda group: max(sum(lengths[index]) for index in group)):
        together = rows + len(group)
        wider = tuple(map(max, zip(widest, *(lengths[index] for index in group), strict=True)))
        if batch and (together > limits.batch_size or together * sum(wider) > limits.max_batch_tokens):
            found.append(batch)
            batch, together = [], len(group)
            wider = tuple(map(max, zip(*(lengths[index] for index in group), strict=True)))
        batch.append(group)
        rows, widest = together, wider
    return [*found, batch] if batch else found


def same_beginnings(requests: Sequence[Request]) -> tuple[list[list[int]], list[int]]:
    """
    Which requests can go on from one beginning: those that show the same of the same prompt, and those that show the
    same images before their prompts part.

    Args:
        requests (`list` of [`Request`]): the requests. Images are the same if they are one object.

    Returns:
        `tuple[list[list[int]], list[int]]`: numbers of the requests of each group, and for each request how many
        tokens of its prompt, hidden ones included, are its group's beginning. It ends in text and holds all images.
    """
    together: dict[tuple[int, ...], list[int]] = {}
    for index, request in enumerate(requests):
        prompt, images = request.prompt, request.prompt.row["images"]
        plain = images and request.visible is None and prompt.kept is None
        key = (1, *map(id, images)) if plain else (0, id(prompt), id(request.visible))
        together.setdefault(key, []).append(index)
    groups, tokens = [], [len(request.prompt.ids) for request in requests]
    for group in together.values():
        prompts = [requests[index].prompt for index in group]
        length, is_image = _common_length(prompts), prompts[0].is_image
        if len(group) > 1 and length and not is_image[length - 1] and not is_image[length:].any():
            groups.append(group)
            for index in group:
                tokens[index] = length
        else:
            groups += same_prompts(requests, group)
    return groups, tokens


def same_prompts(requests: Sequence[Request], numbers: Iterable[int] | None = None) -> list[list[int]]:
    """Numbers (`list[list[int]]`) of requests that show the same of the same prompt, if it ends in text."""
    groups: dict[int | tuple[int, int], list[int]] = {}
    for index in range(len(requests)) if numbers is None else numbers:
        request = requests[index]
        key = index if request.prompt.is_image[-1] else (id(request.prompt), id(request.visible))
        groups.setdefault(key, []).append(index)
    return list(groups.values())


def _common_length(prompts: Sequence[Prompt]) -> int:
    """Number of tokens with which all prompts begin."""
    first, length = prompts[0].ids, min(len(prompt.ids) for prompt in prompts)
    for prompt in prompts[1:]:
        differs = (prompt.ids[:length] != first[:length]).nonzero()
        length = int(differs[0]) if len(differs) else length
    return length
