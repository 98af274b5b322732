"""
Several adapters over one copy of the base weights: the policy's, a value model's, a reward model's.

What is unusual in it: adapters are not switched. Each has modules of its own around the same weight tensors, which are
in memory once. A switch would also be one for gradient checkpointing, which runs layers again in the backward pass,
with whichever adapter is active by then; and PEFT freezes an adapter that is switched off.
"""

import copy
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

import torch
from peft import PeftConfig, PeftModel, get_peft_model, load_peft_weights, set_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import ModulesToSaveWrapper
from transformers import PreTrainedModel

from ..reward.models import REWARD_MODELS


Weights: TypeAlias = dict[str, torch.Tensor]


def scored_twin(policy: PeftModel) -> PreTrainedModel:
    """
    A model with a score over the base weights of a policy, none of which is copied.

    Args:
        policy ([`~peft.PeftModel`]): the policy, on its device.

    Returns:
        [`~transformers.PreTrainedModel`]: a class of `trl_mm.reward.models`, without adapters, with a score of one
        label in float32 that is 0 everywhere.

    Raises:
        ValueError: there is no such class for the policy's family.
    """
    backbone = policy.get_base_model().base_model
    if type(backbone.config) not in REWARD_MODELS:
        known = ", ".join(config.model_type for config in REWARD_MODELS)
        raise ValueError(f"`{backbone.config.model_type}` models have no class with a score (known: {known}).")
    weights = chain(backbone.parameters(), backbone.buffers())
    twin = without_adapters(copy.deepcopy(backbone, {id(weight): weight for weight in weights}))
    twin.config.num_labels = 1
    with torch.device("meta"):
        model = REWARD_MODELS[type(twin.config)](twin.config)
    setattr(model, model.base_model_prefix, twin)
    device = backbone.get_input_embeddings().weight.device
    model.score = torch.nn.Linear(model.score.in_features, 1, bias=False, device=device, dtype=torch.float32)
    torch.nn.init.zeros_(model.score.weight)
    return model


def without_adapters(model: Any) -> Any:
    """The module itself, with the layers that it had before PEFT, in place."""
    for name, module in list(model.named_modules()):
        if isinstance(module, BaseTunerLayer):
            model.set_submodule(name, module.get_base_layer())
        elif isinstance(module, ModulesToSaveWrapper):
            model.set_submodule(name, module.original_module)
    return model


def new_value_model(policy: PeftModel) -> PeftModel:
    """
    A value model with adapters like the policy's, which predicts 0 everywhere until it is trained.

    Args:
        policy ([`~peft.PeftModel`]): the policy.

    Returns:
        [`~peft.PeftModel`]: adapters and score of the value model over the base weights of the policy.
    """
    config = policy.peft_config["default"]
    return get_peft_model(scored_twin(policy), replace(config, task_type="SEQ_CLS", modules_to_save=["score"]))


def reward_adapter(policy: PeftModel, adapter: tuple[PeftConfig, Weights], trainable: bool = False) -> PeftModel:
    """
    A reward model that was trained as adapters on the policy's base, over the weights that the policy has already.

    Args:
        policy ([`~peft.PeftModel`]): the policy.
        adapter (`tuple`): what [`checked_adapter`] returns.
        trainable (`bool`, *optional*, defaults to `False`): whether it trains on, as a value model does.

    Returns:
        [`~peft.PeftModel`]: the reward model; frozen unless `trainable`.
    """
    config, weights = adapter
    model = get_peft_model(scored_twin(policy), replace(config, inference_mode=not trainable))
    set_peft_model_state_dict(model, weights)
    return model if trainable else model.requires_grad_(False).eval()


def checked_adapter(name: str, base: str) -> tuple[PeftConfig, Weights]:
    """
    Read adapters of a reward model.

    Args:
        name (`str`): folder or id of the adapters, as `trl-mm reward` saves them.
        base (`str`): id or path of the model that they are to be used with.

    Returns:
        `tuple`: their configuration and their weights (`dict[str, torch.Tensor]`).

    Raises:
        ValueError: they are of another base, have no trained score, or one of several labels.
    """
    config = PeftConfig.from_pretrained(name)
    if not same_model(config.base_model_name_or_path, base):
        raise ValueError(
            f"`{name}` has adapters for `{config.base_model_name_or_path}`, and the policy is `{base}`. Train the "
            "policy on the same base, or merge the reward model into its own (`trl-mm merge`): whole, it is loaded "
            "beside the policy."
        )
    weights = load_peft_weights(name, device="cpu")
    scores = [weight for key, weight in weights.items() if key.endswith("score.weight")]
    if not scores:
        raise ValueError(
            f"`{name}` has no trained score, so its rewards would be random. Train it with `trl-mm reward`."
        )
    if len(scores[0]) != 1:
        raise ValueError(f"The score of `{name}` has {len(scores[0])} labels; that of a reward model has one.")
    return config, weights


def check_trains_adapters(trains_adapters: bool) -> None:
    """Refuse to train the base itself, which other adapters are to share."""
    if not trains_adapters:
        raise ValueError(
            "PPO trains LoRA adapters, so that policy, value model and reference share one base in memory. Pass "
            "`peft_config` (`use_peft: true` in a recipe)."
        )


def same_model(name: str | None, other: str | None) -> bool:
    """Whether two ids or paths name the same model (`bool`)."""
    if name is None or other is None or name == other:
        return name == other
    return Path(name).exists() and Path(other).exists() and Path(name).resolve() == Path(other).resolve()
