"""Reward models among reward functions: they are shown the images, which TRL leaves out without a word."""

from collections.abc import Callable
from typing import Any

from torch import nn
from transformers import AutoConfig, PreTrainedConfig, ProcessorMixin
from trl.trainer.utils import get_config_model_id

from ..reward.models import REWARD_MODELS
from ..reward.scorer import RewardModel
from ..tokens.processor import base_of_adapter, vision_processor_of


LOADING = ("dtype", "attn_implementation", "trust_remote_code")  # settings of the policy that hold for them too


def with_images(
    reward_funcs: Any, processors: Any = None, model_init_kwargs: dict[str, Any] | None = None
) -> list[Callable[..., Any]]:
    """
    Reward functions in place of reward models.

    Args:
        reward_funcs (`Callable` or `str` or [`~transformers.PreTrainedModel`] or `list`): as in [`~trl.RLOOTrainer`].
        processors ([`~transformers.ProcessorMixin`] or `list`, *optional*): processors of the models among them.
        model_init_kwargs (`dict`, *optional*): how the policy is loaded, of which `LOADING` hold for reward models.

    Returns:
        `list[Callable]`: a [`RewardModel`] for each id and each model, named as TRL names them; functions as they are.

    Raises:
        ValueError: a reward model sees no images, has more than one label, or its score was not trained.
    """
    functions = list(reward_funcs) if isinstance(reward_funcs, list | tuple) else [reward_funcs]
    given = list(processors) if isinstance(processors, list | tuple) else [processors] * len(functions)
    if len(given) != len(functions):
        raise ValueError(
            f"`reward_processing_classes` must have one processor for each of `reward_funcs`, got {len(given)} for "
            f"{len(functions)}."
        )
    options = {name: value for name, value in (model_init_kwargs or {}).items() if name in LOADING}
    return [
        _scorer(function, processor if isinstance(processor, ProcessorMixin) else None, options)
        if isinstance(function, str | nn.Module)
        else function
        for function, processor in zip(functions, given, strict=True)
    ]


def _scorer(model, processor, options):
    name = model if isinstance(model, str) else get_config_model_id(model.config)
    trust = {key: value for key, value in options.items() if key == "trust_remote_code"}
    if isinstance(model, str):
        check_reward_config(_config_of(model, trust), name)
        scorer = RewardModel(model, processor, **options)
    else:
        check_reward_config(model.config, name)
        scorer = RewardModel(model, processor or vision_processor_of(name, "`reward_funcs`", **trust))
    scorer.__name__ = name.rstrip("/").split("/")[-1]
    return scorer


def _config_of(name, options):
    try:
        return AutoConfig.from_pretrained(base_of_adapter(name) or name, **options)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"`reward_funcs`: {name} is no reward that is known here, and no model that can be loaded: "
            f"{str(error).splitlines()[0]}"
        ) from error


def check_reward_config(config: PreTrainedConfig, name: str) -> None:
    """
    Refuse a reward model that does not see images, or does not give one reward.

    Args:
        config ([`~transformers.PreTrainedConfig`]): its configuration.
        name (`str`): its id or path, for messages.

    Raises:
        ValueError: it is of a family without images, or has another number of labels than one.
    """
    if type(config) not in REWARD_MODELS:
        known = sorted(kind.model_type for kind in REWARD_MODELS)
        raise ValueError(
            f"`reward_funcs`: {name} is a `{config.model_type}` model, which is no reward model for images (known: "
            f"{', '.join(known)}). Train one with `trl-mm reward`, or pass a function that shows it what it can read."
        )
    scores = any("SequenceClassification" in architecture for architecture in config.architectures or [])
    if scores and config.num_labels != 1:
        raise ValueError(
            f"`reward_funcs`: {name} has {config.num_labels} labels, and a reward model has one (`num_labels=1`). "
            "Name a model of `trl-mm reward`."
        )
