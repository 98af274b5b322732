"""How far results that are the same on paper lie apart, as processors add up numbers in orders of their own."""

import torch


def rounding(terms, size):
    """
    Largest difference of two sums of the same numbers in float32, added up in any two orders.

    Args:
        terms (`int`): how many numbers each sum has.
        size (`float`): sum of their magnitudes.
    """
    return terms * torch.finfo(torch.float32).eps * size  # each addition rounds by eps / 2 at most, in both sums
