"""Which image tokens the model sees in one attempt."""

from ..data.seeds import derived_seed


def visible_tokens(num_image_tokens, mask_threshold, seed):
    """
    Draw the attention mask of one attempt (arXiv 2407.02477, eq. 6).

    Each image token draws ρ ~ U(0, 1) and is visible if ρ is at least the threshold.

    Args:
        num_image_tokens (`int`): all vectors that the row's images become: base view, tiles, newlines.
        mask_threshold (`float`): ρ_th, share of tokens to hide.
        seed (`tuple`): what the draw derives from.

    Returns:
        `torch.Tensor` of shape `(num_image_tokens,)`: `True` where a token is visible.
    """
    import torch  # not above: the names of the modes are read before a command is known to need it

    generator = torch.Generator().manual_seed(derived_seed("mask", *seed) >> 1)
    return torch.rand(num_image_tokens, generator=generator) >= mask_threshold
