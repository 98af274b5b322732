"""The averaged loss of a stored and a sampled rejected answer: γ·L(y+, y-) + (1 - γ)·L(y+, ỹ-) (eq. 5).

What is unusual in it: all three answers go through the model at once, as branches of one prompt, and TRL's loss then
looks at two of them at a time.
"""

from dataclasses import fields, replace

import torch


# What TRL's loss reads of a batch
LOSS_INPUTS = ("input_ids", "attention_mask", "completion_mask")


def select_pair(values, pair):
    """
    Rows of the chosen answers and of one kind of rejected ones.

    Args:
        values (`torch.Tensor` of shape `(3 * batch_size, ...)`): chosen, stored and sampled rejected answers.
        pair (`int`): 0 for the stored rejected answers, 1 for the sampled ones.

    Returns:
        `torch.Tensor` of shape `(2 * batch_size, ...)`
    """
    chosen, *rejected = values.chunk(3)
    return torch.cat([chosen, rejected[pair]])


def select_pair_outputs(outputs, pair):
    """As [`select_pair`], for each field of TRL's `FusedCausalLMOutput` that has a value per token."""
    values = {field.name: getattr(outputs, field.name) for field in fields(outputs)}
    per_token = {name: value for name, value in values.items() if torch.is_tensor(value) and value.dim() == 2}
    return replace(outputs, **{name: select_pair(value, pair) for name, value in per_token.items()})


def averaged_loss(pair_loss, outputs, reference, inputs, rejected_weight):
    """
    Average the losses of both kinds of pairs.

    Args:
        pair_loss (`Callable`): TRL's loss, given a model and inputs that hold the reference's log-probabilities.
        outputs ([`~trl.trainer.utils.FusedCausalLMOutput`]): the policy's, for `3 * batch_size` rows.
        reference (`torch.Tensor` of shape `(3 * batch_size,)`): log-probabilities of the reference.
        inputs (`dict`): the batch.
        rejected_weight (`float`): γ, weight of the stored rejected answers.

    Returns:
        `torch.Tensor` of shape `()`
    """
    loss = 0.0
    for pair, weight in enumerate((rejected_weight, 1 - rejected_weight)):
        ref_chosen, ref_rejected = select_pair(reference, pair).chunk(2)
        seen = select_pair_outputs(outputs, pair)
        loss += weight * pair_loss(
            lambda seen=seen, **_: seen,
            {
                **{name: select_pair(inputs[name], pair) for name in LOSS_INPUTS},
                "ref_chosen_logps": ref_chosen,
                "ref_rejected_logps": ref_rejected,
            },
        )
    return loss
