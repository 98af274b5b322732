"""Ranges of numeric settings, so that a wrong one is an error before anything is loaded."""

import math


def check_at_least(settings, **least):
    """
    Refuse settings that are too small, or no numbers: a recipe may hold anything.

    Args:
        settings (dataclass): the settings. `None` is not looked at.
        **least (`int` or `float`): setting to the least value; where that is an `int`, the setting is a whole number.

    Raises:
        ValueError: a setting is less, not finite, or no such number.
    """
    for name, low in least.items():
        value = getattr(settings, name, None)
        if value is None:
            continue
        kinds, kind = (int, "a whole number") if isinstance(low, int) else ((int, float), "a number")
        if isinstance(value, bool) or not isinstance(value, kinds) or not math.isfinite(value):
            raise ValueError(f"`{name}` must be {kind}, got {value!r}.")
        if value < low:
            raise ValueError(f"`{name}` must be at least {low}, got {value}.")


def check_positive(settings, *names):
    """Refuse settings that are not above zero; arguments and errors as in [`check_at_least`]."""
    check_at_least(settings, **dict.fromkeys(names, 0.0))
    for name in names:
        if getattr(settings, name, None) == 0:
            raise ValueError(f"`{name}` must be positive, got 0.")
