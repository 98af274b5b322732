"""Recipes: YAML files of a command's settings, and names in them that nothing knows."""

import re
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path

from .yaml_files import read_yaml


_SAVE = "write it with `save_to_disk`, and name its folder as `dataset_name`."
# Settings of TRL's `ScriptArguments` and mixtures, which recipes for its scripts may have
OF_TRL = {
    "datasets": f"Make one dataset of the mixture with `datasets.concatenate_datasets`, {_SAVE}",
    "dataset_config": f"Load that configuration with `datasets.load_dataset(name, config)`, {_SAVE}",
    "dataset_streaming": "Rows are checked before training. For `trl-mm bdhs` set `streaming`.",
    "test_split_size": f"Split the rows with `train_test_split`, {_SAVE} Then set `dataset_test_split`.",
}


def recipe_folders():
    """Folders (`list[Path]`) that recipes are found in by name; a later one wins, the user's own comes last."""
    package = Path(__file__).parents[1]
    # In the wheel they are part of the package, in a checkout they stand beside it
    return [root / "recipes" for root in (package, package.parent, Path.cwd())]


def find_recipe(name):
    """
    Find a recipe by path or by name.

    Args:
        name (`str`): path of a YAML file, or name of a recipe, with or without `recipes/` in front and `.yaml` at the
            end: `llava_v1.6_vicuna_7b/dpo_lora`. A file of that path wins.

    Returns:
        `Path`: the file.

    Raises:
        FileNotFoundError: there is neither such a file nor such a recipe.
    """
    if Path(name).is_file():
        return Path(name)
    found = known_recipes()
    asked = name.removeprefix("recipes/").removesuffix(".yaml")
    if asked not in found:
        raise FileNotFoundError(
            f"`--config {name}`: no such file (looked in `{Path.cwd()}`), and no recipe of that name; the nearest are "
            f"{', '.join(nearest_names(asked, found))}."
        )
    return found[asked]


def known_recipes(with_accelerate=False):
    """
    All recipes.

    Args:
        with_accelerate (`bool`, *optional*, defaults to `False`): whether launch configurations count as well.

    Returns:
        `dict[str, Path]`: their files, by the name that `--config` takes.
    """
    found = {}
    for folder in recipe_folders():
        for path in folder.glob("*/*.yaml"):
            if with_accelerate or path.parent.name != "accelerate":
                found[path.relative_to(folder).with_suffix("").as_posix()] = path
    return found


def nearest_names(name, known):
    """The three `known` names that are nearest to `name` (`list[str]`), all of them if none is near."""
    return get_close_matches(name, known, n=3, cutoff=0.3) or sorted(known)


def read_recipe(path, parser):
    """
    Read a recipe and check its keys.

    Args:
        path (`Path`): YAML file, as [`find_recipe`] has found it.
        parser ([`~transformers.HfArgumentParser`]): parser of the script, which knows the keys. `env` is always
            allowed.

    Returns:
        `dict[str, Any]`: the recipe.

    Raises:
        ValueError: the file is not a YAML mapping, has an unknown key, or an `env` that is no mapping.
    """
    recipe = read_yaml(path)
    if not isinstance(recipe, dict):
        raise ValueError(f"`{path}` must hold `key: value` lines, got a {type(recipe).__name__}.")
    known = {"env", *(field.name for kind in parser.dataclass_types for field in fields(kind))}
    for key in map(str, recipe):
        if key in OF_TRL and key not in known:
            raise ValueError(f"`{path}`: `{key}` of TRL's scripts is not read here. {OF_TRL[key]}")
        if key not in known:
            raise ValueError(f"`{path}`: unknown key `{key}`{nearest(key, known)}; the command's --help lists all.")
    _check_env(path, recipe.get("env", {}))
    return recipe


def _check_env(path, env):
    if not isinstance(env, dict):
        raise ValueError(f"`{path}`: `env` must hold `NAME: value` lines, got {env!r}.")
    for name, value in env.items():
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise ValueError(f"`{path}`: `env` has {name!r}, which is no name of an environment variable.")
        is_text = isinstance(value, str) and value.isprintable()
        if not is_text and not isinstance(value, int | float):
            raise ValueError(f"`{path}`: `env` must give {name} a text or a number on one line, got {value!r}.")


def unknown(what, name, known):
    """Say that `name` is none of the `known` ones, which one is nearest, and list them."""
    return f"unknown {what} `{name}`{nearest(name, known)}; known: {', '.join(sorted(known))}."


def nearest(name, known):
    """`", did you mean …?"` (`str`), empty if none of the `known` names is near."""
    matches = get_close_matches(name, known, n=1)
    return f", did you mean `{matches[0]}`?" if matches else ""
