"""Attention over shared prefixes and their branches: a token attends to what stands before it on its path.

What is unusual in it: with `sdpa` the mask covers only the queries of the branches. The prompt is plainly causal, so
its queries run through the kernels that need no mask: half the work of a masked square, and no square in memory.
"""

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask


SHARED_SDPA = "sdpa_shared_prefix"


def sdpa_shared_prefix(module, query, key, value, attention_mask, **kwargs):
    """
    As `sdpa_attention_forward` of transformers, except that a mask may lack rows for the first queries.

    Args:
        query, key, value (`torch.Tensor` of shape `(batch_size, num_heads, length, head_dim)`): as there.
        attention_mask (`torch.BoolTensor` of shape `(batch_size, 1, T, length)`): mask of the last T queries; the
            others attend to every token up to their own.
    """
    num_shared = 0 if attention_mask is None else query.shape[2] - attention_mask.shape[2]
    if num_shared <= 0 or query.shape[2] != key.shape[2]:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    prompt = (part[:, :, :num_shared] for part in (query, key, value))
    outputs, _ = sdpa_attention_forward(module, *prompt, attention_mask=None, **kwargs)
    if attention_mask.shape[2] == 0:  # no answer has a token
        return outputs, None
    branches, _ = sdpa_attention_forward(module, query[:, :, num_shared:], key, value, attention_mask, **kwargs)
    return torch.cat([outputs, branches], dim=1), None


AttentionInterface.register(SHARED_SDPA, sdpa_shared_prefix)
AttentionMaskInterface.register(SHARED_SDPA, sdpa_mask)


def boolean_mask(until, first=0):
    """
    Which token attends to which.

    Args:
        until (`torch.LongTensor` of shape `(batch_size, length)`): see [`PackedPairs`].
        first (`int`, *optional*, defaults to `0`): first query that needs a row.

    Returns:
        `torch.BoolTensor` of shape `(batch_size, 1, length - first, length)`
    """
    place = torch.arange(until.shape[1], device=until.device)
    # Padding sees itself: a row of nothing would be NaN
    return ((place[first:, None] >= place) & (place[first:, None] < until[:, None]))[:, None]


def _sdpa(pairs, dtype):
    return boolean_mask(pairs.until, pairs.num_shared)


def _eager(pairs, dtype):
    return additive_mask(boolean_mask(pairs.until), dtype)


def additive_mask(allowed, dtype):
    """Mask (`torch.BoolTensor`) as numbers that are added to the scores."""
    return torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill(~allowed, torch.finfo(dtype).min)


def _flex(pairs, dtype):
    from torch.nn.attention.flex_attention import create_block_mask

    until = pairs.until

    def allowed(row, head, query, key):
        return (query >= key) & (query < until[row, key])

    return create_block_mask(allowed, len(until), None, until.shape[1], until.shape[1], device=until.device)


# Attention implementation: from packed pairs and the model's dtype to its mask
MASKS = {SHARED_SDPA: _sdpa, "sdpa": _sdpa, "eager": _eager, "flex_attention": _flex}
