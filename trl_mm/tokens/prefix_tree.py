"""Sequences of tokens as a tree: what several of them begin with stands once.

```
sequences   a b c d e    a b c d f g    a b x    a b x
tokens      a b | c d | e | f g | x
until       8 8 | 7 7 | 5 | 7 7 | 8
```

What is unusual in it: the tree is laid out depth first, so one number for each token says which tokens come after it
on some path. Attention needs no more: a token attends to what stands before it and reaches it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass
class PrefixTree:
    """
    Sequences laid out depth first.

    Attributes:
        sequence (`numpy.ndarray` of shape `(num_tokens,)`): which sequence a token was taken from.
        place (`numpy.ndarray` of shape `(num_tokens,)`): its place there, the number of tokens before it on its path.
        until (`numpy.ndarray` of shape `(num_tokens,)`): end of the span of tokens that come after it on a path.
        segment (`numpy.ndarray` of shape `(num_tokens,)`): number of the unbranched piece that it is in.
        found (`list` of `numpy.ndarray`): for each sequence, where in the tree its tokens are.
        root (`int`): tokens that all sequences begin with.
    """

    sequence: np.ndarray
    place: np.ndarray
    until: np.ndarray
    segment: np.ndarray
    found: list[np.ndarray]
    root: int

    def __len__(self) -> int:
        return len(self.sequence)


def prefix_tree(sequences: Sequence[np.ndarray]) -> PrefixTree:
    """
    Lay out sequences so that each prefix stands once. Those without a token have no part in it.

    Args:
        sequences (`Sequence` of `numpy.ndarray` of integers): token ids of each sequence.

    Returns:
        [`PrefixTree`]
    """
    found = [np.empty(len(ids), np.int64) for ids in sequences]
    pieces: list[tuple[int, int, int, int]] = []  # sequence, first and last place, end of the span behind it
    total = 0

    def grow(members: list[int], start: int) -> None:
        """The piece that `members` share from place `start` on, and all that comes after it."""
        nonlocal total
        leader = sequences[members[0]]
        end = min(len(sequences[member]) for member in members)
        for member in members[1:]:
            differing = np.flatnonzero(sequences[member][start:end] != leader[start:end])
            end = start + int(differing[0]) if len(differing) else end
        for member in members:
            found[member][start:end] = np.arange(total, total + end - start)
        number = len(pieces)
        pieces.append((members[0], start, end, 0))
        total += end - start
        branches: dict[int, list[int]] = {}
        for member in members:
            if len(sequences[member]) > end:
                branches.setdefault(int(sequences[member][end]), []).append(member)
        for branch in branches.values():
            grow(branch, end)
        pieces[number] = (members[0], start, end, total)

    members = [number for number, ids in enumerate(sequences) if len(ids)]
    if members:
        grow(members, 0)
    lengths = [end - start for _, start, end, _ in pieces]

    def spread(values: Sequence[int]) -> np.ndarray:
        return np.repeat(np.array(values, np.int64), lengths)

    return PrefixTree(
        sequence=spread([piece[0] for piece in pieces]),
        place=np.concatenate([np.arange(start, end) for _, start, end, _ in pieces] or [np.empty(0, np.int64)]),
        until=spread([piece[3] for piece in pieces]),
        segment=spread(range(len(pieces))),
        found=found,
        root=lengths[0] if lengths else 0,
    )


def border(tree: PrefixTree, begins: Sequence[int]) -> int:
    """
    Tokens of a tree that stand in front of the branches when trees are rows of one tensor.

    Args:
        tree ([`PrefixTree`]): tree of prompts with their answers.
        begins (`Sequence[int]`): place of the first token of each answer. Equal answers count as branches: in front of
            them, they would make all other rows as long.
    """
    return min(tree.root, max(begins))


def packed_size(trees: Sequence[PrefixTree], borders: Sequence[int]) -> tuple[int, int]:
    """
    Places that trees take as rows of one tensor.

    Args:
        trees (`Sequence` of [`PrefixTree`]): the rows.
        borders (`Sequence[int]`): see [`border`].

    Returns:
        `(int, int)`: places in front of the branches, and places of a whole row.
    """
    num_shared = max(borders)
    return num_shared, num_shared + max(len(tree) - shared for tree, shared in zip(trees, borders, strict=True))
