"""
The losses of PPO (arXiv 1707.06347), as in openai/lm-human-preferences and in TRL while it had a `PPOTrainer`.

Each is a sum over the tokens of a batch and a number of tokens to divide it by, so that a token counts the same
however a batch is cut into pieces; and what is logged of it, as sums over the same tokens.
"""

import torch


Sums = dict[str, torch.Tensor]


def policy_loss(
    log_probs: torch.Tensor,
    old: torch.Tensor,
    advantages: torch.Tensor,
    mask: torch.Tensor,
    epsilon_low: float = 0.2,
    epsilon_high: float = 0.2,
) -> tuple[torch.Tensor, Sums]:
    """
    Clipped surrogate, with ratios of tokens ρ_t = π(t) / π_old(t):

    ```
    Σ_t max(−A_t ρ_t, −A_t clip(ρ_t, 1 − ε_low, 1 + ε_high))
    ```

    Args:
        log_probs (`torch.Tensor` of shape `(num_answers, length)`): log π of each token.
        old (`torch.Tensor` of the same shape): log π_old, of the policy that sampled the answers.
        advantages (`torch.Tensor` of the same shape): A.
        mask (`torch.Tensor` of the same shape): 1 for tokens that count.
        epsilon_low, epsilon_high (`float`, *optional*, defaults to `0.2`): how far a ratio may go down and up.

    Returns:
        `tuple`: the sum (`torch.Tensor` of shape `()`), and sums of `policy/clipfrac_avg`, `policy/approxkl_avg` (half
        the squared log-ratio), `val/ratio` and its square.
    """
    mask = mask.bool()
    log_ratios = (log_probs - old).masked_fill(~mask, 0.0)
    ratios = log_ratios.exp()
    plain, clipped = -advantages * ratios, -advantages * ratios.clamp(1 - epsilon_low, 1 + epsilon_high)
    losses = torch.max(plain, clipped).masked_fill(~mask, 0.0)
    with torch.no_grad():
        sums = {
            "policy/clipfrac_avg": ((clipped > plain) & mask).float().sum(),
            "policy/approxkl_avg": 0.5 * log_ratios.square().sum(),
            "val/ratio": (ratios * mask).sum(),
            "ratio_squared": (ratios.square() * mask).sum(),
        }
    return losses.sum(), sums


def value_loss(
    values: torch.Tensor, old: torch.Tensor, returns: torch.Tensor, mask: torch.Tensor, cliprange: float = 0.2
) -> tuple[torch.Tensor, Sums]:
    """
    Clipped squared error of values:

    ```
    Σ_t ½ max((V_t − R_t)², (clip(V_t, V_old,t − ε_V, V_old,t + ε_V) − R_t)²)
    ```

    Args:
        values (`torch.Tensor` of shape `(num_answers, length)`): V.
        old (`torch.Tensor` of the same shape): V_old, as predicted when the answers were sampled.
        returns (`torch.Tensor` of the same shape): R.
        mask (`torch.Tensor` of the same shape): 1 for tokens that count.
        cliprange (`float`, *optional*, defaults to `0.2`): ε_V.

    Returns:
        `tuple`: the sum (`torch.Tensor` of shape `()`), and sums of `val/clipfrac_avg`, `val/error` (the squared error
        without clipping), and of the returns and their squares.
    """
    mask = mask.bool()
    values, old, returns = (tensor.masked_fill(~mask, 0.0) for tensor in (values, old, returns))
    near = values.clamp(old - cliprange, old + cliprange)
    plain, clipped = (values - returns).square(), (near - returns).square()
    losses = 0.5 * torch.max(plain, clipped)
    with torch.no_grad():
        sums = {
            "val/clipfrac_avg": (clipped > plain).float().sum(),
            "val/error": plain.sum(),
            "returns": returns.sum(),
            "returns_squared": returns.square().sum(),
        }
    return losses.sum(), sums


def step_metrics(sums: Sums, count: torch.Tensor) -> dict[str, float]:
    """
    What is logged of a step.

    Args:
        sums (`dict[str, torch.Tensor]`): those of [`policy_loss`] and [`value_loss`], and others to average, of all
            processes.
        count (`torch.Tensor` of shape `()`): tokens that they are sums over.

    Returns:
        `dict[str, float]`: means; `val/ratio_var`, the variance of the ratios; and `val/var_explained`, the share of
        the variance of the returns that the values explain: 1 if they are right, 0 if a constant would do as well,
        NaN if all returns are equal.
    """
    means = {name: total.double().item() / max(count.item(), 1) for name, total in sums.items()}
    means["val/ratio_var"] = max(means.pop("ratio_squared") - means["val/ratio"] ** 2, 0.0)
    mean, square = means.pop("returns"), means.pop("returns_squared")
    variance = square - mean**2
    # What is left of a difference of equal numbers is rounding
    explains = variance > 1e-6 * square
    means["val/var_explained"] = 1 - means["val/error"] / variance if explains else float("nan")
    return means
