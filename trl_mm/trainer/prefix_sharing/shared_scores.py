"""The prompt is computed once for the scores of both answers: a reward model reads one packed sequence."""

import functools
import types
from typing import Any

import torch
from torch.nn.functional import pad
from transformers.modeling_outputs import SequenceClassifierOutputWithPast

from ...tokens.families import family_of
from ...tokens.processor import TOKEN_INPUTS
from .attention import SHARED_SDPA
from .forest import pack_forest
from .packing import PackedPairs, pack_pairs
from .shared_forward import INPUTS


def share_scored_prefixes(model: Any) -> None:
    """
    Let a reward model compute each prompt once. Images are then expected once per prompt.

    Only calls with `completion_mask` change. Such calls take `num_branches`, the answers per prompt, 2 by default:
    rows `i` and `i + B` are answers to one prompt, as in TRL's `RewardTrainer`, and get their scores in these places.
    With `groups` (`torch.LongTensor` of shape `(B,)`), images are expected once per group, and rows of one group share
    all that they begin with, see [`pack_forest`].

    Args:
        model ([`~transformers.PreTrainedModel`]): reward model, with `score` over its backbone.
    """
    own_forward = model.forward
    text_config = model.config.get_text_config()
    if text_config._attn_implementation == "sdpa":
        text_config._attn_implementation = SHARED_SDPA
    pad_token_id = text_config.pad_token_id or 0
    build_inputs = INPUTS[family_of(model.config).prefix_inputs or "causal"]

    @functools.wraps(type(model).forward)
    def forward(self, *args, completion_mask=None, num_branches=2, groups=None, **kwargs):
        if completion_mask is None:
            return own_forward(*args, **kwargs)
        rows = {name: kwargs.pop(name) for name in TOKEN_INPUTS if name in kwargs}
        if groups is None:
            pairs, kept = pack_answers(rows["input_ids"], completion_mask, num_branches, pad_token_id)
            order = pairs.unpacked[0][kept]
        else:
            ids, labels, ends = with_a_token_behind(rows["input_ids"], completion_mask, pad_token_id)
            behind = torch.arange(labels.shape[1], device=labels.device) == ends[:, None]
            pairs = pack_forest(ids, labels.where(behind, -100), groups, pad_token_id)
            kept, order = pairs.source, pairs.unpacked[0]
        kwargs.pop("margin", None)  # which TRL hands to the model, too
        kwargs |= build_inputs(self, pairs, {**rows, **kwargs})
        outputs = self.base_model(*args, input_ids=pairs.input_ids, **kwargs)
        places = tuple(part[kept] for part in pairs.predicting)
        logits = self.score(outputs.last_hidden_state[places])  # (2 * B, num_labels)
        return SequenceClassifierOutputWithPast(logits=torch.empty_like(logits).index_copy(0, order, logits))

    model.forward = types.MethodType(forward, model)


def pack_answers(
    input_ids: torch.Tensor, completion_mask: torch.Tensor, num_branches: int = 2, pad_token_id: int = 0
) -> tuple[PackedPairs, torch.Tensor]:
    """
    Lay out whole answers as branches behind one copy of their prompt, and say where each ends.

    Args:
        input_ids (`torch.LongTensor` of shape `(K * batch_size, length)`): as in [`pack_pairs`].
        completion_mask (`torch.Tensor` of the same shape): 1 for the tokens of the answers.
        num_branches (`int`, *optional*, defaults to `2`): K, answers per prompt.
        pad_token_id (`int`, *optional*, defaults to `0`): what fills up shorter sequences.

    Returns:
        `(PackedPairs, torch.LongTensor)`: the layout, and for each answer which of the predictions is that of its last
        token, of shape `(K * batch_size,)`.
    """
    ids, labels, ends = with_a_token_behind(input_ids, completion_mask, pad_token_id)
    pairs = pack_pairs(ids, labels, num_branches, pad_token_id)
    rows, place = pairs.unpacked
    return pairs, (place == ends[rows] - 1).nonzero(as_tuple=True)[0]


def with_a_token_behind(
    input_ids: torch.Tensor, completion_mask: torch.Tensor, pad_token_id: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """
    Answers as if they had one more token: a branch ends before the last token that it predicts, and a score is read
    behind the last token.

    Returns:
        `(torch.LongTensor, torch.LongTensor, torch.LongTensor)`: token ids and labels of shape
        `(K * batch_size, length + 1)`, and where the answers end, of shape `(K * batch_size,)`.
    """
    answers = pad(completion_mask, (0, 1)).bool()  # (K * B, L + 1)
    places = torch.arange(answers.shape[1], device=answers.device)
    is_answer = answers.any(1)
    ends = torch.where(is_answer, (places * answers).argmax(1) + 1, 0)  # (K * B,)
    longer = answers | ((places == ends[:, None]) & is_answer[:, None])
    return pad(input_ids, (0, 1), value=pad_token_id), torch.where(longer, pad_token_id, -100), ends
