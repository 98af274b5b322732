"""Rows of a batch that show the same images: decoded, processed and encoded once, whatever is asked of them.

A row belongs to a group if its images and its prompt up to the last of them are those of the row that leads the group.
What follows in its prompt is tokenized without the images, where that gives the same tokens.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch.nn.utils.rnn import pad_sequence

from ..data.images import with_open_images
from .chat_template import bos_ids
from .prefix_tree import PrefixTree, border, packed_size, prefix_tree
from .processor import TOKEN_INPUTS


def open_once(examples: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], list[Hashable]]:
    """
    Rows with open images, those that are stored alike opened once.

    Args:
        examples (`Sequence[dict]`): rows with `images`.

    Returns:
        `(list[dict], list)`: rows as [`with_open_images`] makes them, and for each what its images are known by: the
        content or the path of their files, or their pixels where they have none.
    """
    opened: dict[Hashable, list[PIL.Image.Image]] = {}
    rows: list[dict[str, Any]] = []
    keys: list[Hashable] = []
    for example in examples:
        key = tuple(map(_stored, example["images"]))
        if None not in key and key in opened:
            row = {**example, "images": opened[key]}
        else:
            row = with_open_images(dict(example))
        if None in key:
            key = tuple((image.size, image.tobytes()) for image in row["images"])
        opened[key] = row["images"]
        rows.append(row)
        keys.append(key)
    return rows, keys


def _stored(image):
    """Content or path of an image as `datasets` stores it; `None` of other forms."""
    if not isinstance(image, dict):
        return None
    return image.get("bytes") or image.get("path")


def image_groups(keys: Sequence[Hashable], prompts: Sequence[str], placeholder: str | None) -> list[int]:
    """
    Group of each row, numbered in the order of the rows that lead them.

    Args:
        keys (`Sequence`): what the images of each row are known by; empty without images.
        prompts (`Sequence[str]`): rendered prompts.
        placeholder (`str` or `None`): what stands for an image in them, if rows of a group may ask different things;
            else, and without images, their prompts must be equal.

    Returns:
        `list[int]`
    """
    numbers: dict[Hashable, int] = {}
    groups = []
    for key, prompt in zip(keys, prompts, strict=True):
        head, found, _ = prompt.rpartition(placeholder) if placeholder and key else ("", "", "")
        groups.append(numbers.setdefault((key, head if found else prompt, bool(found)), len(numbers)))
    return groups


def tokenizes_apart(processor: Any) -> bool:
    """
    Whether a text behind an image has the tokens that it has behind the placeholder, which is so if the tokens of the
    image end with one that no text runs into.

    Args:
        processor ([`~transformers.ProcessorMixin`]): processor of the model.
    """
    text, tokenizer = f"a {processor.image_token}\na", processor.tokenizer
    inputs = processor(text=[text], images=[[PIL.Image.new("RGB", (64, 64))]], return_tensors="pt")
    whole, short = inputs["input_ids"][0].tolist(), tokenizer(text)["input_ids"]
    mark, added = tokenizer.convert_tokens_to_ids(processor.image_token), tokenizer.added_tokens_decoder
    if short.count(mark) != 1 or mark not in added:
        return False
    behind = short[short.index(mark) + 1 :]
    last = whole[-len(behind) - 1]
    return whole[-len(behind) :] == behind and last in added and added[last].rstrip == added[mark].rstrip


def prompts_of_groups(
    inputs: Mapping[str, torch.Tensor], groups: Sequence[int], prompts: Sequence[str], processor: Any
) -> dict[str, torch.Tensor]:
    """
    What the processor makes of all prompts, from what it made of those that lead the groups.

    Args:
        inputs (`dict[str, torch.Tensor]`): what it made of the first prompt of each group and its images, padded on
            the left.
        groups (`Sequence[int]`): group of each row.
        prompts (`Sequence[str]`): rendered prompts.
        processor ([`~transformers.ProcessorMixin`]): the processor.

    Returns:
        `dict[str, torch.Tensor]`: with a row for each prompt, padded on the left, and the images once per group.
    """
    names = [name for name in TOKEN_INPUTS if name in inputs]
    leaders = [prompts[groups.index(group)] for group in range(max(groups) + 1)]
    if all(prompt == leaders[group] for prompt, group in zip(prompts, groups, strict=True)):
        return {**inputs, **{name: inputs[name][list(groups)] for name in names}}
    tokenizer = processor.tokenizer
    mark = tokenizer.convert_tokens_to_ids(processor.image_token)

    def behind(prompt: str) -> list[int]:
        """Token ids behind the last image."""
        ids = tokenizer(prompt, add_special_tokens=bool(bos_ids(processor)))["input_ids"]
        return ids[len(ids) - ids[::-1].index(mark) :]

    rows: dict[str, list[torch.Tensor]] = {name: [] for name in names}
    for prompt, group in zip(prompts, groups, strict=True):
        shown = inputs["attention_mask"][group].bool()
        lead = {name: inputs[name][group][shown] for name in names}  # (P,) each
        if prompt != leaders[group]:
            head, tail = len(lead["input_ids"]) - len(behind(leaders[group])), torch.tensor(behind(prompt))
            follows = {"input_ids": tail, "attention_mask": torch.ones_like(tail)}
            lead = {
                name: torch.cat([value[:head], follows.get(name, torch.zeros_like(tail)).to(value)])
                for name, value in lead.items()
            }
        for name, value in lead.items():
            rows[name].append(value)
    fill = {"input_ids": tokenizer.pad_token_id}
    padded = {name: pad_sequence(values, True, fill.get(name, 0), "left") for name, values in rows.items()}
    return {**inputs, **padded}


def settled_groups(
    groups: Sequence[int], sequences: Sequence[Sequence[np.ndarray]], begins: Sequence[int]
) -> list[int]:
    """
    Groups that need no more room in a batch than smaller ones would. Rows of a batch are as wide as the widest of
    them, so that a large group beside small ones may cost more padding than it spares.

    Args:
        groups (`Sequence[int]`): group of each row.
        sequences (`Sequence` of `Sequence` of `numpy.ndarray`): for each row the prompt with each of its answers, as
            far as they are computed.
        begins (`Sequence[int]`): tokens of each prompt.

    Returns:
        `list[int]`: the groups, or some of them in parts; numbered in the order of the rows that lead them.
    """
    trees: dict[tuple[int, ...], tuple[PrefixTree, int]] = {}

    def tree(rows: tuple[int, ...]) -> tuple[PrefixTree, int]:
        if rows not in trees:
            made = prefix_tree([ids for row in rows for ids in sequences[row]])
            trees[rows] = made, border(made, [begins[row] for row in rows])
        return trees[rows]

    def room(members: list[tuple[int, ...]]) -> int:
        made, borders = zip(*map(tree, members), strict=True)
        return len(members) * packed_size(made, borders)[1]

    def width(rows: tuple[int, ...]) -> int:
        made, shared = tree(rows)
        return len(made) - shared

    # Rows that begin alike stay together when a group is cut in two
    order = sorted(range(len(groups)), key=lambda row: (sequences[row][0].tobytes(), row))
    members = [tuple(row for row in order if groups[row] == group) for group in range(max(groups) + 1)]
    alone: list[tuple[int, ...]] = [(row,) for row in range(len(groups))]
    candidates = [members, alone]
    while len(widest := max(members, key=width)) > 1:
        half = len(widest) // 2
        members = [rows for rows in members if rows is not widest] + [widest[:half], widest[half:]]
        candidates.append(members)
    best = min(candidates, key=room)  # the first of equals, which encodes the fewest images
    member_of = {row: rows for rows in best for row in rows}
    numbers: dict[tuple[int, ...], int] = {}
    return [numbers.setdefault(member_of[row], len(numbers)) for row in range(len(groups))]


def packed_sizes(
    groups: Sequence[int], sequences: Sequence[Sequence[np.ndarray]], begins: Sequence[int]
) -> tuple[int, int]:
    """Tokens that groups have when each prefix stands once, and places that they take in a batch; see above."""
    trees, borders = [], []
    for group in range(max(groups) + 1):
        rows = [row for row in range(len(groups)) if groups[row] == group]
        trees.append(prefix_tree([ids for row in rows for ids in sequences[row]]))
        borders.append(border(trees[-1], [begins[row] for row in rows]))
    return sum(map(len, trees)), len(trees) * packed_size(trees, borders)[1]
