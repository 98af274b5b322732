"""Rewards of tokens, GAE and whitening beside plain recursions over answers without padding."""

import statistics

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trl_mm.trainer.on_policy.advantages import generalized_advantages, token_rewards, whitened


numbers = st.floats(-3, 3, width=32)
answers = st.lists(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=6), min_size=1, max_size=4)
shares = st.floats(0, 1)


def padded(rows, padding=float("nan")):
    """Rows of different lengths as one tensor, whatever stands in the padding, and its mask."""
    width = max(map(len, rows)) + 1
    values = torch.tensor([[*row, *[padding] * (width - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    return values, mask


def recursion(rewards, values, gamma, lam):
    """Advantage of each token of one answer, by the sum over all later ones that defines it."""
    changes = [
        reward + gamma * after - value
        for reward, value, after in zip(rewards, values, [*values[1:], 0.0], strict=True)
    ]
    return [sum((gamma * lam) ** n * change for n, change in enumerate(changes[t:])) for t in range(len(changes))]


@given(answers, shares, shares)
def test_advantages_are_those_of_each_answer_alone(rows, gamma, lam):
    rewards, mask = padded([[reward for reward, _ in row] for row in rows])
    values, _ = padded([[value for _, value in row] for row in rows])
    advantages, returns = generalized_advantages(rewards, values, mask, gamma, lam)
    for row, found, target in zip(rows, advantages.tolist(), returns.tolist(), strict=True):
        expected = recursion(*zip(*row, strict=True), gamma, lam)
        assert found[: len(row)] == pytest.approx(expected, abs=1e-4)
        assert target[: len(row)] == pytest.approx([a + v for a, (_, v) in zip(expected, row, strict=True)], abs=1e-4)
        assert set(found[len(row) :]) == set(target[len(row) :]) == {0.0}


@given(answers)
def test_with_neither_discount_nor_bootstrap_returns_are_the_sums_of_later_rewards(rows):
    rewards, mask = padded([[reward for reward, _ in row] for row in rows])
    values, _ = padded([[value for _, value in row] for row in rows])
    _, returns = generalized_advantages(rewards, values, mask, gamma=1.0, lam=1.0)
    for row, found in zip(rows, returns.tolist(), strict=True):
        later = [sum(reward for reward, _ in row[t:]) for t in range(len(row))]
        assert found[: len(row)] == pytest.approx(later, abs=1e-4)


def test_the_score_stands_at_the_last_token_and_divergence_at_each():
    log_ratios, mask = padded([[0.5, -1.0], [2.0], [1.0, 1.0, 1.0]])
    rewards = token_rewards(torch.tensor([10.0, 20.0, 30.0]), log_ratios, mask, 0.1)
    expected = [[-0.05, 10.1, 0, 0], [19.8, 0, 0, 0], [-0.1, -0.1, 29.9, 0]]
    assert torch.allclose(rewards, torch.tensor(expected))


def test_an_answer_that_does_not_count_has_no_rewards():
    nothing = torch.zeros(1, 3)
    assert torch.equal(token_rewards(torch.tensor([5.0]), nothing + 1, nothing, 0.1), nothing)
    advantages, returns = generalized_advantages(nothing + 1, nothing + 1, nothing)
    assert torch.equal(advantages, nothing) and torch.equal(returns, nothing)
    assert torch.equal(whitened(nothing + 1, nothing), nothing)


@given(answers)
def test_whitened_values_have_mean_0_and_deviation_1(rows):
    values, mask = padded([[value for value, _ in row] for row in rows])
    white = whitened(values, mask)
    kept = white[mask.bool()].tolist()
    given_values = values[mask.bool()].tolist()
    assert torch.equal(white * (1 - mask), torch.zeros_like(white))
    if len(kept) > 1 and statistics.stdev(given_values) > 0.1:
        assert statistics.fmean(kept) == pytest.approx(0, abs=1e-4)
        assert statistics.stdev(kept) == pytest.approx(1, abs=1e-3)
    kept_mean = whitened(values, mask, shift_mean=False)[mask.bool()]
    assert kept_mean.mean().item() == pytest.approx(statistics.fmean(given_values), abs=1e-2)


def test_whitening_counts_the_values_of_all_processes():
    values, mask = padded([[1.0, 2.0], [5.0], [-4.0, 0.5, 3.0]], padding=0.0)
    whole = whitened(values, mask)
    other = values[1:], mask[1:]
    # Each of two processes holds some of the answers; the sums of the other one are asked for in the same order
    mean = values[mask.bool()].mean()
    sums = [other[1].sum().float(), (other[0] * other[1]).sum(), ((other[0] - mean) * other[1]).square().sum()]
    part = whitened(values[:1], mask[:1], total=lambda value: value + sums.pop(0))
    assert torch.allclose(part, whole[:1], atol=1e-6)
