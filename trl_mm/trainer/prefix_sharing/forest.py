"""Rows of one image as one sequence: each prefix that several of them have is computed once, each answer once.

```
rows      <image> P c1    <image> P r1    <image> Q c2    <image> Q r2        P, Q: questions
packed    [ <image> ][ P ][ c1 ][ r1 ][ Q ][ c2 ][ r2 ]
```

What rows begin with is found in their tokens, see [`PrefixTree`]: questions part behind the image, answers behind the
question or behind the words that they begin with, and equal answers do not part at all. Only the first piece of each
sequence is plainly causal, as in `packing.py`. A state may predict several tokens, where answers part.
"""

import numpy as np
import torch

from ...tokens.prefix_tree import border, packed_size, prefix_tree
from .packing import PackedPairs


class Forests:
    """Lays out batches. The last layout is kept, for the model that reads the same batch next."""

    def __init__(self):
        self.batch = self.labels = self.seen = self.pairs = None

    def pack(self, input_ids, labels, groups, pad_token_id, batch=None):
        """As [`pack_forest`]; `batch` is the tensor that a batch is known by."""
        batch = input_ids if batch is None else batch
        # Values are not compared, which would wait for the device; these tensors are kept, so their memory is theirs
        seen = labels.data_ptr(), labels.shape
        if batch is not self.batch or seen != self.seen:
            self.pairs = pack_forest(input_ids, labels, groups, pad_token_id)
            self.batch, self.labels, self.seen = batch, labels, seen
        return self.pairs


def spared(sizes):
    """
    Metrics of a batch.

    Args:
        sizes (`torch.LongTensor` of shape `(3,)`): tokens in TRL's layout, tokens that are computed, and places of the
            packed rows.

    Returns:
        `dict[str, torch.Tensor]`: `shared_tokens`, the share of TRL's tokens that are not computed, and `padding`,
        that of the places without a token.
    """
    of_trl, computed, places = sizes.float().clamp(min=1)
    return {"shared_tokens": 1 - computed / of_trl, "padding": 1 - computed / places}


def pack_forest(input_ids, labels, groups, pad_token_id=0):
    """
    Lay out rows that show the same images as one sequence.

    Args:
        input_ids (`torch.LongTensor` of shape `(K * batch_size, length)`): rows `i`, `i + batch_size`, ... are answers
            to one prompt; padded on the right.
        labels (`torch.LongTensor` of the same shape): token ids to score in the places of the answers, -100 elsewhere.
        groups (`torch.LongTensor` of shape `(batch_size,)`): which group a prompt is of, from 0 on. All that its rows
            have up to the last image is equal.
        pad_token_id (`int`, *optional*, defaults to `0`): what fills up shorter sequences.

    Returns:
        [`PackedPairs`]: the layout, with a row for each group.
    """
    num_rows, length = input_ids.shape
    repeated = groups.repeat(num_rows // len(groups))[:, None]  # (K * B, 1)
    # All that is needed at once: each copy waits for the device
    known = torch.cat([input_ids, labels, repeated], dim=1).cpu().numpy()
    ids, wanted, of_group = known[:, :length], known[:, length:-1], known[:, -1]
    is_answer = wanted != -100
    has_answer = is_answer.any(1)
    begins = np.where(has_answer, is_answer.argmax(1), 0)  # (K * B,), place of the first token of the answer
    # The last token predicts nothing
    counts = np.where(has_answer, length - 1 - is_answer[:, ::-1].argmax(1), 0)
    members = [np.flatnonzero(of_group == group) for group in range(of_group.max() + 1)]
    trees = [prefix_tree([ids[row, : counts[row]] for row in rows]) for rows in members]
    borders = [border(tree, begins[rows]) for tree, rows in zip(trees, members, strict=True)]
    num_shared, width = packed_size(trees, borders)

    layout = np.zeros((4, len(trees), width), np.int64)
    row, position, branch, until = layout
    branch -= 1
    until += np.arange(1, width + 1)
    predictions = []  # packed row, place, token; row and place in TRL's output
    for group, (tree, rows, shared) in enumerate(zip(trees, members, borders, strict=True)):
        row[group] = rows[0]
        places = np.arange(len(tree))
        places[shared:] += num_shared - shared
        row[group, places] = rows[tree.sequence]
        position[group, places] = tree.place
        branch[group, places] = tree.segment
        until[group, places] = tree.until + num_shared - shared
        for number, found in zip(rows, tree.found, strict=True):
            scored = np.flatnonzero(is_answer[number])
            values = (group, places[found[scored - 1]], wanted[number, scored], number, scored - 1)
            predictions.append(np.stack(np.broadcast_arrays(*values)))
    predictions = np.concatenate(predictions, axis=1)
    # Equal answers predict the same tokens from the same states
    packed, place, token = predictions[:3]
    key = (packed * width + place) * (token.max(initial=0) + 1) + token
    _, kept, source = np.unique(key, return_index=True, return_inverse=True)

    def moved(values):
        return torch.from_numpy(values).to(input_ids.device)

    row, position, branch, until = moved(layout)
    *predicting, predicted = moved(predictions[:3, kept])
    source, *unpacked = moved(np.stack([source, *predictions[3:]]))
    return PackedPairs(
        input_ids=input_ids[row, position].masked_fill(branch < 0, pad_token_id),
        position_ids=position,
        row=row,
        branch=branch,
        until=until,
        leader=moved(np.array([rows[0] for rows in members])),
        num_shared=num_shared,
        predicting=tuple(predicting),
        predicted=predicted,
        unpacked=tuple(unpacked),
        unpacked_shape=(num_rows, length - 1),
        source=source,
    )
