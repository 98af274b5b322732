"""Rows of one image, and pairs of one prompt, in one batch, so that what they share is computed once."""

import hashlib
import json
from collections import deque

import torch
from torch.utils.data import Sampler

from ..data.tables import undecoded


MEGABATCH = 50  # batches whose rows are sorted by length together, as transformers does it


class ImageGroupedSampler(Sampler):
    """
    An order in which rows of one image follow one another, and batches are filled so that few of them are parted.

    It follows from seed and epoch alone: it is the same in every process, and in a resumed run. An image with more
    rows than a batch has fills several of them, pairs of one prompt together as far as they fit. Which images meet in
    a batch, and which rows of a large group, differs from epoch to epoch.

    Args:
        batch_size (`int`): rows that go through the model together in one process.
        keys (`list[tuple[str, str]]`): digests of the images and of the prompt of each row, see [`row_keys`].
        seed (`int`): seed of the first epoch.
        epoch (`Callable`): returns the current epoch (`int`).
        lengths (`list[int]`, *optional*): tokens of each row. With them, groups of similar length share a batch, and
            the batch with the longest row comes first.
    """

    def __init__(self, batch_size, keys, seed, epoch, lengths=None):
        self.batch_size, self.seed, self.epoch, self.lengths = batch_size, seed, epoch, lengths
        self.num_rows = len(keys)
        self.groups = {}  # rows by image and prompt
        for row, (images, prompt) in enumerate(keys):
            self.groups.setdefault(images, {}).setdefault(prompt, []).append(row)

    def __len__(self):
        return self.num_rows

    def __iter__(self):
        generator = torch.Generator().manual_seed(self.seed + self.epoch())

        def shuffled(items):
            return [items[index] for index in torch.randperm(len(items), generator=generator).tolist()]

        pieces = []
        for prompts in shuffled(list(self.groups.values())):
            pieces += self._pieces([shuffled(rows) for rows in shuffled(list(prompts.values()))])
        batches, rest = self._filled(pieces)
        batches += [rest[start : start + self.batch_size] for start in range(0, len(rest), self.batch_size)]
        last = [batches.pop()] if batches and len(batches[-1]) < self.batch_size else []
        batches = shuffled(batches) + last
        if self.lengths is not None and len(batches) > len(last):
            # What does not fit into memory shows at once. An incomplete batch stays where it is
            complete = range(len(batches) - len(last))
            longest = max(complete, key=lambda number: self._longest(batches[number]))
            batches.insert(0, batches.pop(longest))
        return iter([row for batch in batches for row in batch])

    def _longest(self, rows):
        return max(self.lengths[row] for row in rows)

    def _pieces(self, prompts):
        """Rows of one image (`list[list[int]]`), at most a batch in each, given as those of each prompt."""
        pieces = [[]]
        for rows in prompts:
            for start in range(0, len(rows), self.batch_size):
                part = rows[start : start + self.batch_size]
                if len(pieces[-1]) + len(part) > self.batch_size:
                    pieces.append([])
                pieces[-1] += part
        return pieces

    def _filled(self, pieces):
        """Whole batches (`list[list[int]]`), and the rows that are left (`list[int]`), from pieces in random order."""
        count = len(pieces) if self.lengths is None else MEGABATCH * self.batch_size
        batches, rest = [], []
        for start in range(0, len(pieces), max(count, 1)):
            near = pieces[start : start + count] + rest
            # Small pieces fill what large ones leave; those of one size stay in random order
            near.sort(key=len if self.lengths is None else self._longest, reverse=True)
            more, rest = self._best_fit(near)
            batches += more
        return batches, [row for piece in rest for row in piece]

    def _best_fit(self, pieces):
        """Batches that are full once each piece went where the least room is left, and the pieces of others."""
        batches, open_ones = [], {room: deque() for room in range(self.batch_size + 1)}
        for piece in pieces:
            room = next((room for room in range(len(piece), self.batch_size) if open_ones[room]), self.batch_size)
            parts = open_ones[room].popleft() if open_ones[room] else []
            parts.append(piece)
            room -= len(piece)
            if room:
                open_ones[room].append(parts)
            else:
                batches.append([row for part in parts for row in part])
        return batches, [piece for room in sorted(open_ones) for parts in open_ones[room] for piece in parts]


def row_keys(dataset):
    """
    What images and prompts of rows are known by. Image files count by their paths, and embedded ones by their content.

    Args:
        dataset (`datasets.Dataset`): rows with `images` and `prompt`. No image is decoded.

    Returns:
        `list[tuple[str, str]]`: digests of the images and of the prompt of each row. A row without images belongs to
        those of its prompt.
    """
    keys = []
    for batch in undecoded(dataset).select_columns(["images", "prompt"]).iter(256):
        for images, prompt in zip(batch["images"], batch["prompt"], strict=True):
            asked = _digest(json.dumps(prompt, sort_keys=True, default=str).encode())
            shown = b" ".join(_digest(image["bytes"] or (image["path"] or "").encode()).encode() for image in images)
            keys.append((_digest(shown) if images else asked, asked))
    return keys


def _digest(content):
    return hashlib.blake2b(content, digest_size=16).hexdigest()
