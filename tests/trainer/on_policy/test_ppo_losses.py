"""PPO's losses beside loops over tokens."""

import math
import statistics

import pytest
import torch

from trl_mm.trainer.on_policy.ppo_losses import policy_loss, step_metrics, value_loss


def tokens(seed, rows=4, length=6):
    """Tensors for both losses, padding included that must not matter."""
    generator = torch.Generator().manual_seed(seed)
    made = {name: torch.randn(rows, length, generator=generator) for name in ("new", "old", "advantages", "returns")}
    lengths = torch.randint(1, length, (rows,), generator=generator)
    mask = torch.arange(length) < lengths[:, None]
    return {name: value.masked_fill(~mask, float("nan")) for name, value in made.items()}, mask


def counted(mask, *tensors):
    return zip(*(tensor[mask].tolist() for tensor in tensors), strict=True)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("low", "high"), [(0.2, 0.2), (0.1, 0.4)])
def test_the_policy_loss_is_that_of_a_loop(seed, low, high):
    given, mask = tokens(seed)
    loss, sums = policy_loss(given["new"], given["old"], given["advantages"], mask, low, high)
    expected = clipped = kl = ratios = 0
    for new, old, advantage in counted(mask, given["new"], given["old"], given["advantages"]):
        ratio = math.exp(new - old)
        plain, bounded = -advantage * ratio, -advantage * min(max(ratio, 1 - low), 1 + high)
        expected += max(plain, bounded)
        clipped += bounded > plain
        kl += (new - old) ** 2 / 2
        ratios += ratio
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert sums["policy/clipfrac_avg"].item() == clipped and clipped > 0
    assert sums["policy/approxkl_avg"].item() == pytest.approx(kl, rel=1e-5)
    assert sums["val/ratio"].item() == pytest.approx(ratios, rel=1e-5)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("cliprange", [0.2, 1.0])
def test_the_value_loss_is_that_of_a_loop(seed, cliprange):
    given, mask = tokens(seed)
    loss, sums = value_loss(given["new"], given["old"], given["returns"], mask, cliprange)
    expected = clipped = errors = 0
    for new, old, target in counted(mask, given["new"], given["old"], given["returns"]):
        near = min(max(new, old - cliprange), old + cliprange)
        expected += max((new - target) ** 2, (near - target) ** 2) / 2
        clipped += (near - target) ** 2 > (new - target) ** 2
        errors += (new - target) ** 2
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert sums["val/clipfrac_avg"].item() == clipped and clipped > 0
    assert sums["val/error"].item() == pytest.approx(errors, rel=1e-5)


def test_gradients_reach_tokens_that_are_not_clipped_only():
    new = torch.tensor([[0.0, 1.0, 1.0, -1.0, 0.5]], requires_grad=True)
    advantages = torch.tensor([[1.0, 1.0, -1.0, 1.0, 1.0]])
    mask = torch.tensor([[1, 1, 1, 1, 0]])
    policy_loss(new, torch.zeros(1, 5), advantages, mask)[0].backward()
    # Unmoved; moved too far already; moved the wrong way twice; padding
    expected = [-1.0, 0.0, math.e, -math.exp(-1), 0.0]
    assert new.grad[0].tolist() == pytest.approx(expected, rel=1e-5)


def test_at_the_first_epoch_the_policy_loss_is_the_policy_gradient():
    given, mask = tokens(5)
    new = given["old"].clone().requires_grad_()
    loss, sums = policy_loss(new, given["old"], given["advantages"], mask)
    loss.backward()
    assert torch.equal(new.grad[mask], -given["advantages"][mask])
    assert torch.equal(new.grad[~mask], torch.zeros_like(new.grad[~mask]))
    assert sums["policy/clipfrac_avg"] == sums["policy/approxkl_avg"] == 0


def test_metrics_of_a_step():
    given, mask = tokens(2)
    _, of_policy = policy_loss(given["new"], given["old"], given["advantages"], mask)
    _, of_values = value_loss(given["new"], given["old"], given["returns"], mask)
    metrics = step_metrics({**of_policy, **of_values}, mask.sum())
    returns = given["returns"][mask].tolist()
    ratios = (given["new"] - given["old"]).exp()[mask].tolist()
    errors = [(a - b) ** 2 for a, b in counted(mask, given["new"], given["returns"])]
    assert metrics["val/ratio"] == pytest.approx(statistics.fmean(ratios), rel=1e-5)
    assert metrics["val/ratio_var"] == pytest.approx(statistics.pvariance(ratios), rel=1e-4)
    explained = 1 - statistics.fmean(errors) / statistics.pvariance(returns)
    assert metrics["val/var_explained"] == pytest.approx(explained, rel=1e-4)


def test_equal_returns_have_no_variance_to_explain():
    values, mask = torch.randn(2, 3), torch.ones(2, 3)
    _, of_policy = policy_loss(values, values, values, mask)
    _, of_values = value_loss(values, values, torch.full((2, 3), 0.7), mask)
    assert math.isnan(step_metrics({**of_policy, **of_values}, mask.sum())["val/var_explained"])
    assert step_metrics({**of_policy, **of_values}, torch.tensor(0))["val/error"] > 0
