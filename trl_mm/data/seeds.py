"""Randomness from what it belongs to, such as (seed, step, row id, attempt), and not from a global state."""

import hashlib


def derived_seed(*parts):
    """64-bit seed from any values, the same on every machine and in every process."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest())
