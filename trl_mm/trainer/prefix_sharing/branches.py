"""Sampled answers in the layout that models read: those to one prompt as its branches, and back again.

What is unusual in it: a batch may hold any number of answers to a prompt, as where a group is split over processes. A
prompt with fewer answers than another gets empty ones, which cost nothing once they are packed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from trl.trainer.utils import flush_left

from ...generation.prompt_inputs import joined
from ...tokens.processor import TOKEN_INPUTS


@dataclass
class Branches:
    """
    Answers laid out for a model.

    Attributes:
        inputs (`dict[str, torch.Tensor]`): what the model reads: tokens of shape `(K * B, L)`, padded on the right,
            rows `i`, `i + B`, ... with the same prompt, and the images of the B prompts, once.
        completion_mask (`torch.LongTensor` of shape `(K * B, L)`): 1 for the tokens of answers.
        num_branches (`int`): K.
        rows (`torch.LongTensor` of shape `(N,)`): where each answer is.
        places (`torch.LongTensor` of shape `(N, T)`): place of each token of an answer, less one: what predicts it.
        is_token (`torch.BoolTensor` of shape `(N, T)`): which of these there are.
    """

    inputs: dict[str, Any]
    completion_mask: torch.Tensor
    num_branches: int
    rows: torch.Tensor
    places: torch.Tensor
    is_token: torch.Tensor

    @property
    def labels(self) -> torch.Tensor:
        """Token ids of the answers, -100 elsewhere, of shape `(K * B, L)`."""
        return self.inputs["input_ids"].masked_fill(self.completion_mask == 0, -100)

    def per_answer(self, values: torch.Tensor) -> torch.Tensor:
        """Values of predictions, `(K * B, L - 1)`, by answer, `(N, T)`; 0 where an answer has no token."""
        return values[self.rows[:, None], self.places].masked_fill(~self.is_token, 0)


def lay_out(
    prompts: Sequence[Mapping[str, torch.Tensor]],
    numbers: Sequence[int],
    completion_ids: torch.Tensor,
    completion_mask: torch.Tensor,
    pad_token_id: int,
    shares: bool = True,
) -> Branches:
    """
    Lay out answers behind their prompts.

    Args:
        prompts (`list[dict[str, torch.Tensor]]`): prompts of [`prompt_inputs`].
        numbers (`list[int]`): the prompt of each of the N answers.
        completion_ids (`torch.LongTensor` of shape `(N, T)`): the answers, padded on the right.
        completion_mask (`torch.Tensor` of shape `(N, T)`): 1 for their tokens; a row of zeros is an empty answer.
        pad_token_id (`int`): what fills up shorter sequences.
        shares (`bool`, *optional*, defaults to `True`): whether the model computes a prompt once for all its answers;
            otherwise each answer has its own prompt and images, and K is 1.

    Returns:
        [`Branches`]
    """
    device = completion_ids.device
    order = branch_order(numbers) if shares else [list(range(len(numbers)))]  # (K, B), -1 for empty answers
    batch = joined([prompts[numbers[number]] for number in order[0]], pad_token_id)
    batch = {name: value.to(device) for name, value in batch.items()}
    taken = torch.tensor([number for branch in order for number in branch], device=device)  # (K * B,)
    is_token = (completion_mask[taken] != 0) & (taken >= 0)[:, None]  # (K * B, T)
    # A prompt is found by where its answers begin, so the first one has a token, which `per_answer` leaves out again
    first = is_token[: len(order[0])]
    first[:, 0] |= ~first.any(1)
    follows = {"input_ids": completion_ids[taken].where(is_token, pad_token_id), "attention_mask": is_token.long()}
    nothing = torch.zeros_like(follows["input_ids"])
    tokens = {
        name: torch.cat([batch.pop(name).repeat(len(order), 1), follows.get(name, nothing)], 1)
        for name in TOKEN_INPUTS
        if name in batch
    }
    tokens["completion_mask"] = torch.cat([torch.zeros_like(tokens["input_ids"][:, : -nothing.shape[1]]), is_token], 1)
    attention_mask = tokens.pop("attention_mask")
    flushed = dict(zip(("attention_mask", *tokens), flush_left(attention_mask, *tokens.values()), strict=True))
    mask = flushed.pop("completion_mask").long()  # (K * B, L)
    rows = torch.empty(len(numbers), dtype=torch.long, device=device)
    rows[taken[taken >= 0]] = (taken >= 0).nonzero()[:, 0]
    starts = flushed["attention_mask"].sum(1) - mask.sum(1)  # (K * B,)
    places = starts[rows, None] - 1 + torch.arange(completion_ids.shape[1], device=device)  # (N, T)
    return Branches(
        inputs={**flushed, **batch},
        completion_mask=mask,
        num_branches=len(order),
        rows=rows,
        places=places.clamp(max=mask.shape[1] - 2),
        is_token=completion_mask != 0,
    )


def branch_order(numbers: Sequence[int]) -> list[list[int]]:
    """
    Answers by branch and prompt.

    Args:
        numbers (`list[int]`): the prompt of each answer.

    Returns:
        `list[list[int]]`: K lists of B numbers of answers, for the answers to B prompts; -1 where a prompt has fewer
        than K. The first list has none of these.
    """
    groups: dict[int, list[int]] = {}
    for answer, prompt in enumerate(numbers):
        groups.setdefault(prompt, []).append(answer)
    most = max(map(len, groups.values()))
    return [[group[branch] if branch < len(group) else -1 for group in groups.values()] for branch in range(most)]
