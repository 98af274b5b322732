"""Losses of a pair of answers, as `trl.DPOTrainer` defines them, with a weight for each pair."""

import torch
from torch.nn.functional import logsigmoid


def pair_loss(name, log_ratios, lengths, weights, beta):
    """
    Mean loss of the pairs of a batch.

    Args:
        name (`str`): one of `LOSSES`.
        log_ratios (`torch.Tensor` of shape `(2 * batch_size,)`): log-probability of an answer under the policy minus
            that under the reference; the chosen answers come first.
        lengths (`torch.Tensor` of shape `(2 * batch_size,)`): tokens of the answers.
        weights (`torch.Tensor` of shape `(batch_size,)`): weight of each pair. The mean is over all pairs: a pair of
            weight 0 does not make the others count for more.
        beta (`float`): β, or τ for IPO.

    Returns:
        `torch.Tensor` of shape `()`
    """
    losses = LOSSES[name](log_ratios, lengths.clamp(min=1), beta)  # (B,)
    # Not `weights * losses`: 0 times infinity would be no number
    return torch.where(weights > 0, weights * losses, 0 * log_ratios.chunk(2)[0]).mean()


def pair_metrics(policy, reference, weights, is_sampled, beta):
    """
    What TRL's online trainer logs of a batch, over real tokens only.

    Args:
        policy (`torch.Tensor` of shape `(2 * batch_size, T)`): log-probabilities of answer tokens; 0 elsewhere.
        reference (`torch.Tensor` of the same shape): the same under the reference.
        weights (`torch.Tensor` of shape `(batch_size,)`): pairs of weight 0 have no chosen answer.
        is_sampled (`torch.BoolTensor` of shape `(batch_size,)`): pairs that the policy sampled; of the others, their
            log-probabilities say nothing about KL and entropy.
        beta (`float`): β.

    Returns:
        `dict[str, tuple]`: sums and counts.
    """
    (chosen, rejected), (ref_chosen, ref_rejected) = policy.sum(1).chunk(2), reference.sum(1).chunk(2)
    reward_chosen, reward_rejected = beta * (chosen - ref_chosen), beta * (rejected - ref_rejected)
    margins = reward_chosen - reward_rejected
    decided, sampled = weights > 0, is_sampled.repeat(2)
    per_pair = {
        "rewards/chosen": reward_chosen,
        "rewards/rejected": reward_rejected,
        "rewards/margins": margins,
        "rewards/accuracies": (margins > 0).float(),
        "logps/chosen": chosen,
        "logps/rejected": rejected,
    }
    kl = (policy - reference).sum(1)
    per_answer = {
        "objective/kl": kl,
        "objective/non_score_reward": -beta * kl,
        "objective/entropy": -policy.sum(1),
    }
    return {
        **{name: (values[decided].sum(), decided.sum()) for name, values in per_pair.items()},
        **{name: (values[sampled].sum(), sampled.sum()) for name, values in per_answer.items()},
        "beta": (beta, 1),
    }


def sigmoid(log_ratios, lengths, beta):
    chosen, rejected = log_ratios.chunk(2)
    return -logsigmoid(beta * (chosen - rejected))


def hinge(log_ratios, lengths, beta):
    chosen, rejected = log_ratios.chunk(2)
    return torch.relu(1 - beta * (chosen - rejected))


def ipo(log_ratios, lengths, beta):
    chosen, rejected = (log_ratios / lengths).chunk(2)  # the mean over tokens, so that β fits any length
    return (chosen - rejected - 1 / (2 * beta)) ** 2


LOSSES = {"sigmoid": sigmoid, "ipo": ipo, "hinge": hinge}
