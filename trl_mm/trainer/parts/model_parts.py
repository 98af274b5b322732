"""Parts of a vision-language model, told by the names of its weights: language model, projector, vision tower."""

import torch
from transformers import AutoConfig, AutoModelForImageTextToText
from transformers.modeling_utils import set_zero3_state

from ...tokens.families import FAMILIES, LANGUAGE_MODEL, UNKNOWN, family_of


def part_of(name, model_type):
    """
    Part of a model that a weight or a module belongs to.

    Args:
        name (`str`): its name, with whatever PEFT puts in front and in between.
        model_type (`str`): type of the model, as its configuration says.

    Returns:
        `str`: `"language model"`, `"projector"` or `"vision tower"`; `"vision part"` for both of the latter if
            they are not known of its family.
    """
    if _is_in(name, (*LANGUAGE_MODEL, "lm_head", "score")):  # the heads of generation and of reward models
        return "language model"
    projector = FAMILIES.get(model_type, UNKNOWN).projector
    if not projector:
        return "vision part"
    return "projector" if _is_in(name, projector) else "vision tower"


def check_parts_are_known(model_type, setting):
    """Raise a `ValueError` if projector and vision tower of a model type are not known; `setting` asks for them."""
    if not FAMILIES.get(model_type, UNKNOWN).projector:
        known = [name for name, family in FAMILIES.items() if family.projector]
        raise ValueError(
            f"`{setting}` needs to know projector and vision tower, and of `{model_type}` models they are not known "
            f"(known: {', '.join(known)}). Leave it out."
        )


def projector_modules(model):
    """Names (`list[str]`) of the modules of a model's projector. A weight beside them, as for newlines, is none."""
    modules = dict(model.base_model.named_modules())
    found = []
    for name in family_of(model.config).projector:
        module = modules.get(name)
        if isinstance(module, torch.nn.ModuleList):
            found += [f"{name}.{index}" for index in range(len(module))]
        elif module is not None:
            found.append(name)
    return found


def meta_model(model_id, args):
    """
    Build a model on the meta device, for the names of its modules; 0.2 seconds for 7B.

    Args:
        model_id (`str`): id or path of the model.
        args ([`~transformers.TrainingArguments`]): arguments of TRL's trainer: revision, and whether to trust code.

    Returns:
        [`~transformers.PreTrainedModel`]
    """
    trust = {"trust_remote_code": args.trust_remote_code}
    config = AutoConfig.from_pretrained(model_id, revision=(args.model_init_kwargs or {}).get("revision"), **trust)
    with set_zero3_state(), torch.device("meta"):  # else ZeRO-3 would split what has no weights
        return AutoModelForImageTextToText.from_config(config, **trust)


def _is_in(name, parts):
    return any(f".{part}." in f".{name}." for part in parts)
