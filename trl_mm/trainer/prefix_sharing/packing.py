"""Answers to one prompt as branches of one sequence.

```
tokens      [ prompt without its last token ][ last, chosen[:-1] ][ last, rejected[:-1] ]
position    0 … P-2                          P-1 …                P-1 …
branch      0                                1                    2
predicts    –                                chosen               rejected
```

Each branch begins with its own copy of the prompt's last token, so that no hidden state has to predict two different
tokens. The prompts of a batch are padded to the same length before the branches begin: up to there attention is
plainly causal, and only the branches need a mask.
"""

from dataclasses import dataclass, replace

import torch


@dataclass
class PackedPairs:
    """
    Answers laid out behind one copy of their prompt.

    Attributes:
        input_ids (`torch.LongTensor` of shape `(batch_size, S + T)`): S places for prompts, T for branches.
        position_ids (`torch.LongTensor` of shape `(batch_size, S + T)`): positions, `P - 1` again at the beginning of
            each branch.
        row (`torch.LongTensor` of shape `(batch_size, S + T)`): row of TRL's layout that a token was taken from.
        branch (`torch.LongTensor` of shape `(batch_size, S + T)`): 0 for the prompt, 1 to K for the answers, -1 for
            padding.
        until (`torch.LongTensor` of shape `(batch_size, S + T)`): place before which the tokens stand that attend to a
            token, from its own place on; that of padding is the next one.
        leader (`torch.LongTensor` of shape `(batch_size,)`): row of TRL's layout whose prompt stands first.
        num_shared (`int`): S, the places before the first branch.
        predicting (`tuple` of two `torch.LongTensor` of shape `(num_predicted,)`): row and place of each token that
            predicts a token of an answer.
        predicted (`torch.LongTensor` of shape `(num_predicted,)`): the token ids that they predict.
        unpacked (`tuple` of two `torch.LongTensor` of shape `(num_predicted,)`): row and place of each prediction in
            TRL's output of shape `unpacked_shape`, `(K * batch_size, length - 1)`.
        source (`torch.LongTensor`, *optional*): for each of the `unpacked` places, which of the predictions stands
            there; without it each stands in one place.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    row: torch.Tensor
    branch: torch.Tensor
    until: torch.Tensor
    leader: torch.Tensor
    num_shared: int
    predicting: tuple[torch.Tensor, torch.Tensor]
    predicted: torch.Tensor
    unpacked: tuple[torch.Tensor, torch.Tensor]
    unpacked_shape: tuple[int, int]
    source: torch.Tensor | None = None

    def pack(self, values):
        """Values of TRL's layout, of shape `(..., K * batch_size, length)`, packed to `(..., batch_size, S + T)`."""
        return values[..., self.row, self.position_ids]

    def unpack(self, values):
        """Values of shape `(num_predicted,)` in TRL's layout, `(K * batch_size, length - 1)`; 0 elsewhere."""
        values = values if self.source is None else values[self.source]
        return values.new_zeros(self.unpacked_shape).index_put(self.unpacked, values)


def pack_pairs(input_ids, labels, num_branches=2, pad_token_id=0):
    """
    Lay out answers to the same prompt as branches of one sequence.

    Args:
        input_ids (`torch.LongTensor` of shape `(K * batch_size, length)`): rows `i`, `i + batch_size`, ... begin with
            the same prompt; padded on the right.
        labels (`torch.LongTensor` of the same shape): token ids to score in the places of the answers, as a rule those
            of the answers; -100 elsewhere.
        num_branches (`int`, *optional*, defaults to `2`): K, answers per prompt.
        pad_token_id (`int`, *optional*, defaults to `0`): what fills up shorter sequences.

    Returns:
        [`PackedPairs`]
    """
    batch_size, length = len(input_ids) // num_branches, input_ids.shape[1]
    device = input_ids.device
    is_answer = labels != -100
    answer_lengths = is_answer.sum(1).view(num_branches, batch_size).T  # (B, K)
    # An answer that was cut away entirely has no beginning of its own
    starts = torch.where(is_answer.any(1), is_answer.int().argmax(1), 0).view(num_branches, batch_size)
    last = (starts.max(0).values - 1).clamp(min=0)[:, None]  # (B, 1), place of the prompt's last token
    ends = answer_lengths.cumsum(1)  # (B, K)
    num_shared, num_branched = torch.stack([last.max(), ends[:, -1].max()]).tolist()  # S, T

    shared = torch.arange(num_shared, device=device).expand(batch_size, -1)  # (B, S)
    place = torch.arange(num_branched, device=device).expand(batch_size, -1)  # (B, T)
    number = (place[:, :, None] >= ends[:, None]).sum(2)  # (B, T), K behind the last branch
    real = number < num_branches
    number = number.clamp(max=num_branches - 1)
    position = last + place - (ends - answer_lengths).gather(1, number)  # (B, T)
    position = position.where(real, 0)
    first = torch.arange(batch_size, device=device)[:, None]  # (B, 1)
    origin = number * batch_size + first  # (B, T), row of the answer
    in_prompt = shared < last
    tokens = torch.cat(
        [
            input_ids[:batch_size, :num_shared].where(in_prompt, pad_token_id),
            input_ids[origin, position].where(real, pad_token_id),
        ],
        dim=1,
    )
    rows, places = real.nonzero(as_tuple=True)
    answered, position_of_answer = origin[rows, places], position[rows, places]
    length_packed = num_shared + num_branched
    itself = torch.arange(1, length_packed + 1, device=device).expand(batch_size, -1)
    reach = torch.cat([torch.full_like(shared, length_packed), num_shared + ends.gather(1, number)], dim=1)
    return PackedPairs(
        input_ids=tokens,
        position_ids=torch.cat([shared, position], dim=1),
        row=torch.cat([first.expand_as(shared), origin], dim=1),
        branch=torch.cat([torch.where(in_prompt, 0, -1), torch.where(real, number + 1, -1)], dim=1),
        until=reach.where(torch.cat([in_prompt, real], dim=1), itself),
        leader=first[:, 0],
        num_shared=num_shared,
        predicting=(rows, places + num_shared),
        predicted=labels[answered, position_of_answer + 1],
        unpacked=(answered, position_of_answer),
        unpacked_shape=(len(input_ids), length - 1),
    )


def score_again(pairs, labels):
    """
    Score other tokens in the places of the first answers, by the states that predict these.

    Args:
        pairs ([`PackedPairs`]): packed answers.
        labels (`torch.LongTensor` of shape `(batch_size, length)`): token ids to score, -100 outside of the answers.

    Returns:
        [`PackedPairs`]: with `batch_size` more rows in what is unpacked.
    """
    rows, places = pairs.unpacked
    num_rows, width = pairs.unpacked_shape
    first = rows < len(labels)
    again = rows[first], places[first]
    predicting, predicted = pairs.predicting, pairs.predicted
    if pairs.source is not None:  # answers that are equal may be scored again with different tokens
        predicting, predicted = tuple(part[pairs.source] for part in predicting), predicted[pairs.source]
    return replace(
        pairs,
        source=None,
        predicting=tuple(torch.cat([part, part[first]]) for part in predicting),
        predicted=torch.cat([predicted, labels[again[0], again[1] + 1]]),
        unpacked=(torch.cat([rows, again[0] + num_rows]), torch.cat([places, again[1]])),
        unpacked_shape=(num_rows + len(labels), width),
    )
