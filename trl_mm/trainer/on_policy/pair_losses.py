"""TRL's loss of pairs of which some have no verdict.

What is unusual in it: the loss is a method of `DPOTrainer`, so `_Trainer` stands for one that has just these pairs.
"""

from collections import defaultdict
from types import SimpleNamespace

import torch
from trl import DPOTrainer


# What TRL's loss logs of its pairs, and we do too
METRICS = tuple(
    "rewards/chosen rewards/rejected rewards/accuracies rewards/margins logps/chosen logps/rejected".split()
)


class _Trainer:
    """What TRL's loss reads of a `DPOTrainer`. Nothing is gathered: processes decide different numbers of pairs."""

    aux_loss_enabled = use_weighting = False
    precompute_ref_logps = True  # the reference's log-probabilities stand in the inputs
    ld_alpha, f_divergence_type, loss_weights = None, "reverse_kl", [1.0]
    model = SimpleNamespace(training=False)  # tokens are counted in training only
    _total_train_tokens = 0

    def __init__(self, loss_type, beta, device):
        self.loss_types, self.beta = [loss_type], beta
        self.accelerator = SimpleNamespace(device=device, gather=_alone, gather_for_metrics=_alone)
        self._metrics = {"eval": defaultdict(list)}


def _alone(values):
    return values


def pair_loss(loss_type, beta, log_probs, reference, inputs, weights):
    """
    Mean loss of the pairs of a batch, chosen answers first.

    Args:
        loss_type (`str`): as in [`~trl.DPOConfig`].
        beta (`float`): β, or τ for IPO.
        log_probs (`torch.Tensor` of shape `(2 * batch_size, T - 1)`): the policy's of each token; 0 outside answers.
        reference (`torch.Tensor` of shape `(2 * batch_size,)`): the reference's of each answer.
        inputs (`dict`): the batch, of which `input_ids` and `completion_mask` are looked at.
        weights (`torch.Tensor` of shape `(batch_size,)`): 1 for a pair with a verdict, 0 for one without. The mean is
            over all pairs: one without does not make the others count for more.

    Returns:
        `tuple`: the loss (`torch.Tensor` of shape `()`), and sums and counts of what TRL logs of pairs with a verdict
        (`dict[str, tuple]`).
    """
    decided = weights > 0
    if not decided.any():
        return 0 * log_probs.sum(), dict.fromkeys(METRICS, (0, 0))
    rows = decided.repeat(2)  # (2B,)
    ref_chosen, ref_rejected = reference[rows].chunk(2)
    pairs = {name: inputs[name][rows] for name in ("input_ids", "completion_mask")}
    pairs |= {"ref_chosen_logps": ref_chosen, "ref_rejected_logps": ref_rejected}
    # Zeros for what TRL only logs: the LM head does not compute it here
    zeros = dict.fromkeys(("entropy", "mean_logits", "is_top1"), torch.zeros_like(log_probs[rows], dtype=torch.bool))
    outputs = SimpleNamespace(log_probs=log_probs[rows], **zeros)
    trainer = _Trainer(loss_type, beta, log_probs.device)
    loss = DPOTrainer._compute_loss(trainer, lambda **_: outputs, pairs, False)
    count = decided.sum()
    metrics = {name: (trainer._metrics["eval"][name][0] * count, count) for name in METRICS}
    return loss * count / len(weights), metrics


def answer_metrics(log_probs, reference, is_sampled, beta):
    """
    What TRL's online trainer logs of sampled answers; of stored ones, their log-probabilities say nothing about it.

    Args:
        log_probs (`torch.Tensor` of shape `(2 * batch_size,)`): log-probabilities of the answers under the policy.
        reference (`torch.Tensor` of shape `(2 * batch_size,)`): the same under the reference.
        is_sampled (`torch.BoolTensor` of shape `(batch_size,)`): pairs that the policy sampled.
        beta (`float`): β.

    Returns:
        `dict[str, tuple]`: sums and counts.
    """
    sampled = is_sampled.repeat(2)
    kl = (log_probs - reference)[sampled].sum()
    sums = {
        "objective/kl": kl,
        "objective/non_score_reward": -beta * kl,
        "objective/entropy": -log_probs[sampled].sum(),
    }
    return {name: (total, sampled.sum()) for name, total in sums.items()}
