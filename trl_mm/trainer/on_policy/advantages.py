"""
What each token of an answer was worth to PPO: rewards of tokens, and generalized advantages (arXiv 1506.02438).

Tensors are of shape `(num_answers, length)`: a place per token of the answers, padded on the right, 0 in `mask` for
padding. The value at a place is that of the state in which its token was chosen, before it: where its log-probability
is read.
"""

from collections.abc import Callable

import torch


def token_rewards(
    scores: torch.Tensor, log_ratios: torch.Tensor, mask: torch.Tensor, kl_coefficient: float
) -> torch.Tensor:
    """
    Rewards of tokens: −β (log π_old − log π_ref) at each, and the score of the answer at its last.

    Args:
        scores (`torch.Tensor` of shape `(num_answers,)`): rewards of whole answers.
        log_ratios (`torch.Tensor` of shape `(num_answers, length)`): log π_old − log π_ref of each token.
        mask (`torch.Tensor` of the same shape): 1 for tokens of the answers.
        kl_coefficient (`float`): β.

    Returns:
        `torch.Tensor` of shape `(num_answers, length)`: 0 for padding. An answer without a token has no reward.
    """
    mask = mask.bool()
    rewards = (-kl_coefficient * log_ratios).masked_fill(~mask, 0.0)
    places = torch.arange(mask.shape[1], device=mask.device)
    is_last = mask & (places == (places * mask).amax(1, keepdim=True))  # (N, T)
    return rewards + torch.where(is_last, scores[:, None], 0.0)


def generalized_advantages(
    rewards: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, gamma: float = 1.0, lam: float = 0.95
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Advantages by GAE, and the returns that values are trained on:

    ```
    δ_t = r_t + γ V_{t+1} − V_t        V is 0 behind the last token
    A_t = δ_t + γ λ A_{t+1}
    R_t = A_t + V_t
    ```

    Args:
        rewards (`torch.Tensor` of shape `(num_answers, length)`): rewards of tokens.
        values (`torch.Tensor` of the same shape): V, as predicted when the answers were sampled.
        mask (`torch.Tensor` of the same shape): 1 for tokens of the answers.
        gamma (`float`, *optional*, defaults to `1.0`): γ, the discount.
        lam (`float`, *optional*, defaults to `0.95`): λ. 1 is the return less the value, 0 looks one token ahead.

    Returns:
        `tuple` of two `torch.Tensor` of shape `(num_answers, length)`: advantages and returns, 0 for padding.
    """
    mask = mask.bool()
    values = values.masked_fill(~mask, 0.0)
    rewards = rewards.masked_fill(~mask, 0.0)
    advantages = torch.zeros_like(values)
    following = next_value = torch.zeros_like(values[:, 0])  # (N,)
    for place in reversed(range(values.shape[1])):
        change = rewards[:, place] + gamma * next_value - values[:, place]
        # Behind the last token all is 0, so padding passes nothing on
        following = torch.where(mask[:, place], change + gamma * lam * following, 0.0)
        next_value = values[:, place]
        advantages[:, place] = following
    return advantages, advantages + values


def whitened(
    values: torch.Tensor,
    mask: torch.Tensor,
    shift_mean: bool = True,
    total: Callable[[torch.Tensor], torch.Tensor] = torch.Tensor.clone,
) -> torch.Tensor:
    """
    Values on a common scale: less their mean, over their standard deviation (the unbiased one, as in TRL).

    Args:
        values (`torch.Tensor` of shape `(num_answers, length)`): values of tokens.
        mask (`torch.Tensor` of the same shape): 1 for what counts.
        shift_mean (`bool`, *optional*, defaults to `True`): whether the mean becomes 0; else it stays as it is, as
            for rewards.
        total (`Callable`, *optional*): the sum of a tensor over all processes, whose values count alike.

    Returns:
        `torch.Tensor` of the same shape: 0 outside of the mask. A single value, of which there is no deviation, is 0
        (or itself, without `shift_mean`).
    """
    mask = mask.bool()
    kept = values.masked_fill(~mask, 0.0)
    count = total(mask.sum().to(values.dtype))
    mean = total(kept.sum()) / count.clamp(min=1)
    squares = total((kept - mean).masked_fill(~mask, 0.0).square().sum())
    white = (kept - mean) * torch.rsqrt(squares / (count - 1).clamp(min=1) + 1e-8)
    return (white if shift_mean else white + mean).masked_fill(~mask, 0.0)
