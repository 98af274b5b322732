"""Parts of a vision-language model, told by the names of its weights: language model, projector, vision tower."""

import torch
from transformers import AutoConfig, AutoModelForImageTextToText
from transformers.modeling_utils import set_zero3_state


LANGUAGE_MODEL = ("language_model", "text_model")  # names that model types give it


def part_of(name, model_type):
    """
    Part of a model that a weight or a module belongs to.

    Args:
        name (`str`): its name, with whatever PEFT puts in front and in between.
        model_type (`str`): type of the model, as its configuration says.

    Returns:
        `str`: `"language model"`, `"projector"` or `"vision tower"`; `"vision part"` for both of the latter if the
            model type is not in `PROJECTORS`.
    """
    if _is_in(name, (*LANGUAGE_MODEL, "lm_head")):
        return "language model"
    if model_type not in PROJECTORS:
        return "vision part"
    return "projector" if _is_in(name, PROJECTORS[model_type]) else "vision tower"


def check_parts_are_known(model_type, setting):
    """Raise a `ValueError` if projector and vision tower of a model type are not known; `setting` asks for them."""
    if model_type not in PROJECTORS:
        raise ValueError(
            f"`{setting}` needs to know projector and vision tower, and of `{model_type}` models they are not known "
            f"(known: {', '.join(PROJECTORS)}). Leave it out."
        )


def projector_modules(model):
    """Names (`list[str]`) of the modules of a model's projector. A weight beside them, as for newlines, is none."""
    modules = dict(model.base_model.named_modules())
    found = []
    for name in PROJECTORS[model.config.model_type]:
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


# Model type: names of all between vision tower and language model, within the model that has no LM head
PROJECTORS = {
    "llava": ("multi_modal_projector",),
    "llava_next": ("multi_modal_projector", "image_newline"),
    "vipllava": ("multi_modal_projector",),
    "llava_onevision": ("multi_modal_projector", "image_newline"),
    "internvl": ("multi_modal_projector",),
    "idefics3": ("connector",),
    "smolvlm": ("connector",),
    "qwen2_vl": ("visual.merger",),
    "qwen2_5_vl": ("visual.merger",),
    "qwen3_vl": ("visual.merger", "visual.deepstack_merger_list"),
    "gemma3": ("multi_modal_projector",),
}
