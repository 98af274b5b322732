"""The rewards that a recipe names: verifiable ones, functions by their dotted path, and reward models."""

from .training import as_mapping, check_keys


EXAMPLE = '{"objects": {"metric": "chair"}}'


def reward_functions(asked):
    """
    Rewards (`list`) as trainers take them.

    Args:
        asked (`list[str | dict]`): names, dotted paths, ids or paths of reward models, and mappings from one of these
            to its arguments, or their JSON.

    Raises:
        ValueError: there is no such reward, or it takes no such argument.
    """
    return [one_reward(item) for item in asked]


def one_reward(item):
    """A reward function, or the id of a reward model for text, which TRL loads."""
    from ..reward.verifiable import VERIFIABLE_REWARDS

    name, settings = item, {}
    if isinstance(item, dict) or (isinstance(item, str) and item.lstrip().startswith("{")):
        pairs = as_mapping("reward_funcs", item, EXAMPLE)
        if len(pairs) != 1 or not isinstance(next(iter(pairs.values())), dict):
            raise ValueError(f"`reward_funcs` must give one reward its arguments, got {item!r}. Write {EXAMPLE}.")
        [(name, settings)] = pairs.items()
    if not isinstance(name, str):
        raise ValueError(f"`reward_funcs` must name rewards, got {name!r}. Write {EXAMPLE}.")
    if name in VERIFIABLE_REWARDS:
        return made(name, VERIFIABLE_REWARDS[name], settings)
    found = find_reward(name)
    if not isinstance(found, str):
        if not settings:
            return found
        return made(name, found, settings)  # a class, or a function that makes one
    if not sees_images(name):
        if settings:
            raise ValueError(f"`reward_funcs`: {name} is no reward model for images, and takes no arguments.")
        return name
    from accelerate import PartialState

    from ..reward.scorer import RewardModel

    scorer = made(name, RewardModel, {"model": name, "device": PartialState().device, **settings})
    scorer.__name__ = name.rstrip("/").split("/")[-1]  # what it is logged under, as in TRL
    return scorer


def made(name, kind, settings):
    """A reward of a kind with some arguments."""
    import inspect

    parameters = inspect.signature(kind).parameters
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        check_keys("reward_funcs", settings, list(parameters))
    try:
        return kind(**settings)
    except TypeError as error:
        raise ValueError(f"`reward_funcs`: {name} cannot be made ({error}). Write {EXAMPLE}.") from error
    except ValueError as error:
        raise ValueError(f"`reward_funcs`: {name}: {error}") from error


def sees_images(name):
    """Whether a reward model, or the base of an adapter of one, is of a family that we score with its images."""
    from transformers import AutoConfig

    from ..reward.models import REWARD_MODELS
    from ..tokens.processor import base_of_adapter

    try:
        config = AutoConfig.from_pretrained(base_of_adapter(name) or name)
    except (OSError, ValueError):
        return False  # TRL says what is wrong with it
    return type(config) in REWARD_MODELS


def check_columns(functions, columns):
    """Refuse rows without the column that a verifiable reward looks at."""
    from ..reward.verifiable import VerifiableReward

    for function in functions or ():
        if isinstance(function, VerifiableReward) and function.columns:
            function.column_of(columns)


def find_reward(name):
    """A reward function by its dotted path, as in TRL's commands; what is no such path is the id of a model."""
    import importlib
    import os
    import sys

    module, _, function = name.rpartition(".")
    if "/" in name or not module:
        return name
    sys.path.insert(0, os.getcwd())
    try:
        return getattr(importlib.import_module(module), function)
    except (ModuleNotFoundError, AttributeError) as error:
        raise ValueError(
            f"`reward_funcs`: there is no {name} ({error}). Give the dotted path of a function in an installed "
            "package or below the working directory, or the id of a reward model with its owner."
        ) from error
    finally:
        sys.path.remove(os.getcwd())
