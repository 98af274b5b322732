"""TRL's loss of pairs beside its formulas, and what a pair without a verdict does to it."""

import pytest
import torch
from torch.nn.functional import logsigmoid

from trl_mm.trainer.on_policy.pair_losses import METRICS, answer_metrics, pair_loss


BETA = 0.3
LOSSES = {
    "sigmoid": lambda margins, means: -logsigmoid(BETA * margins),
    "hinge": lambda margins, means: torch.relu(1 - BETA * margins),
    "ipo": lambda margins, means: (means - 1 / (2 * BETA)) ** 2,
}


def batch(seed, size=5, length=7):
    """Log-probabilities of answers of different lengths behind prompts of two tokens, and those of a reference."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.zeros(2 * size, length, dtype=torch.long)
    for row, count in zip(mask, torch.randint(1, length - 1, (2 * size,), generator=generator), strict=True):
        row[2 : 2 + count] = 1
    log_probs = -torch.rand(2 * size, length - 1, generator=generator) * mask[:, 1:]
    reference = -torch.rand(2 * size, generator=generator) * mask.sum(1)
    return log_probs.requires_grad_(), reference, {"input_ids": torch.ones_like(mask), "completion_mask": mask}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("weights", [[1, 1, 1, 1, 1], [1, 0, 0, 1, 1], [0, 0, 1, 0, 0]])
def test_the_mean_is_over_all_pairs_and_ties_count_nothing(name, weights):
    log_probs, reference, inputs = batch(sum(weights))
    weights = torch.tensor(weights, dtype=torch.float)
    loss, metrics = pair_loss(name, BETA, log_probs, reference, inputs, weights)

    ratios = log_probs.sum(1) - reference
    chosen, rejected = ratios.chunk(2)
    mean_chosen, mean_rejected = (ratios / inputs["completion_mask"].sum(1)).chunk(2)
    expected = (weights * LOSSES[name](chosen - rejected, mean_chosen - mean_rejected)).mean()
    torch.testing.assert_close(loss, expected)
    (gradient,) = torch.autograd.grad(loss, log_probs, retain_graph=True)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, log_probs)[0])
    assert not gradient[weights.repeat(2) == 0].any()

    decided = weights > 0
    totals = {
        "rewards/margins": BETA * (chosen - rejected)[decided].sum(),
        "rewards/accuracies": (chosen > rejected)[decided].sum(),
        "logps/rejected": log_probs.sum(1).chunk(2)[1][decided].sum(),
    }
    assert metrics.keys() == set(METRICS)
    for metric, total in totals.items():
        assert metrics[metric][0].item() == pytest.approx(total.item(), rel=1e-5)
        assert metrics[metric][1] == weights.sum()


def test_a_batch_without_a_verdict_has_gradients_of_zero_and_the_same_metrics():
    """Processes add up their metrics, so all have the same ones."""
    log_probs, reference, inputs = batch(0)
    loss, metrics = pair_loss("sigmoid", BETA, log_probs, reference, inputs, torch.zeros(5))
    assert loss == 0 and not torch.autograd.grad(loss, log_probs)[0].any()
    assert metrics == dict.fromkeys(METRICS, (0, 0))


def test_only_sampled_answers_say_something_of_kl_and_entropy():
    metrics = answer_metrics(
        torch.tensor([-1.0, -2, -3, -4]), torch.tensor([-2.0, 0, -1, 0]), torch.tensor([True, False]), BETA
    )
    # The first pair's answers: the first and the third
    assert metrics == {
        "objective/kl": (1 - 2, 2),
        "objective/non_score_reward": (pytest.approx(BETA), 2),
        "objective/entropy": (1 + 3, 2),
    }
