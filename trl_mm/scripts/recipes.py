"""Recipes: YAML files of a command's settings, and names in them that nothing knows."""

from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path

import yaml


def read_recipe(path, parser):
    """
    Read a recipe and check its keys.

    Args:
        path (`str`): YAML file.
        parser ([`~transformers.HfArgumentParser`]): parser of the script, which knows the keys. `env` is always
            allowed.

    Returns:
        `dict[str, Any]`: the recipe.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is not a YAML mapping, has an unknown key, or an `env` that is no mapping.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"`--config {path}`: no such file (looked in `{Path.cwd()}`).")
    try:
        recipe = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"`{path}` is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(recipe, dict):
        raise ValueError(f"`{path}` must hold `key: value` lines, got a {type(recipe).__name__}.")
    known = {"env", *(field.name for kind in parser.dataclass_types for field in fields(kind))}
    for key in map(str, recipe):
        if key not in known:
            raise ValueError(f"`{path}`: unknown key `{key}`{nearest(key, known)}; the command's --help lists all.")
    if not isinstance(recipe.get("env", {}), dict):
        raise ValueError(f"`{path}`: `env` must hold `NAME: value` lines, got {recipe['env']!r}.")
    return recipe


def unknown(what, name, known):
    """Say that `name` is none of the `known` ones, which one is nearest, and list them."""
    return f"unknown {what} `{name}`{nearest(name, known)}; known: {', '.join(sorted(known))}."


def nearest(name, known):
    """`", did you mean …?"` (`str`), empty if none of the `known` names is near."""
    matches = get_close_matches(name, known, n=1)
    return f", did you mean `{matches[0]}`?" if matches else ""
