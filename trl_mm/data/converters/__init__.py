"""From rows of published datasets to rows of the format: pure functions of one row."""

from .llava_instruct import llava_instruct


# Name for `--converter`
CONVERTERS = {"llava_instruct": llava_instruct}


def find_converter(name):
    """
    Converter of a name.

    Args:
        name (`str` or `None`): key of `CONVERTERS`; `None` for rows that need none.

    Raises:
        ValueError: there is no such converter.
    """
    if name is not None and name not in CONVERTERS:
        raise ValueError(f"`converter` must be one of {', '.join(CONVERTERS)}, got {name!r}.")
    return None if name is None else CONVERTERS[name]
