"""YAML within bounds: a short file can stand for more than any memory holds, or nest deeper than any reader goes."""

from pathlib import Path

import yaml


LARGEST = 200_000  # bytes of a file
MOST_VALUES = 10_000  # with what aliases repeat
DEEPEST = 20


def read_yaml(path):
    """
    Read a YAML file.

    Args:
        path (`str` or `Path`): the file.

    Returns:
        `Any`: what it holds.

    Raises:
        ValueError: it is no YAML, or holds more than a file of settings does.
    """
    if Path(path).stat().st_size > LARGEST:
        raise ValueError(f"`{path}` has more than {LARGEST:,} bytes: no file of settings.")
    try:
        text = Path(path).read_text(encoding="utf-8")
        depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):  # event by event, so that it can be stopped
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                raise yaml.YAMLError(f"it is nested deeper than {DEEPEST} levels.")
        _check_expanded(yaml.compose(text, Loader=yaml.SafeLoader))
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # the latter of a date or a number that is none
        raise ValueError(f"`{path}` is not valid YAML: {' '.join(str(error).split())}") from error


def _check_expanded(root):
    """Refuse a document whose aliases make it too large or too deep, or repeat themselves without end."""
    measured = {}

    def measure(node):
        """Number of values in a node, and its depth. An alias is the very node that it stands for, measured before."""
        if id(node) in measured:
            if measured[id(node)] is None:
                raise yaml.YAMLError("an alias stands for what it is a part of.")
            return measured[id(node)]
        measured[id(node)] = None
        parts = getattr(node, "value", None)
        parts = parts if isinstance(parts, list) else []
        inner = [measure(part) for entry in parts for part in (entry if isinstance(entry, tuple) else (entry,))]
        measured[id(node)] = 1 + sum(count for count, _ in inner), 1 + max((depth for _, depth in inner), default=0)
        count, depth = measured[id(node)]
        if count > MOST_VALUES or depth > DEEPEST + 1:
            raise yaml.YAMLError(f"with its aliases it has more than {MOST_VALUES:,} values, or {DEEPEST} levels.")
        return count, depth

    if root is not None:
        measure(root)
