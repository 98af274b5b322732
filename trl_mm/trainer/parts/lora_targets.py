"""Which modules of a vision-language model get a LoRA adapter: by default the linear layers of its language model."""

import logging
from dataclasses import replace

import torch
from peft import LoraConfig, PeftModel
from peft.tuners.tuners_utils import check_target_module_exists

from ...tokens.families import LANGUAGE_MODEL
from .config import frozen_parts
from .model_parts import check_parts_are_known, meta_model, part_of, projector_modules
from .quantization import check_whole_modules


logger = logging.getLogger(__name__)


def with_targets(peft_config, model, args):
    """
    Complete a LoRA configuration for a vision-language model, before the model is loaded.

    Without `target_modules`, or with `"all-linear"`, adapters go on the linear layers of the language model: not on
    the vision tower, the projector and the LM head. With `projector_learning_rate` the projector is added to
    `modules_to_save`, unless it gets adapters.

    Args:
        peft_config ([`~peft.PeftConfig`], *optional*): configuration; only a [`~peft.LoraConfig`] is changed.
        model (`str` or [`~transformers.PreTrainedModel`]): model to be adapted, or its id.
        args ([`TrainedPartsConfig`]): arguments of the trainer.

    Returns:
        [`~peft.PeftConfig`] or `None`: a new configuration, or what was given.

    Raises:
        ValueError: `target_modules` match nothing, or modules of a vision tower that shall be frozen; or what is to be
            trained as a whole is quantized.
    """
    if not isinstance(peft_config, LoraConfig) or isinstance(model, PeftModel):  # which TRL refuses
        return peft_config
    if isinstance(model, str):
        model = meta_model(model, args)
    targets, model_type = peft_config.target_modules, model.config.model_type
    if targets is None and not peft_config.target_parameters or _is_all_linear(targets):
        peft_config = replace(peft_config, target_modules=_pattern(model))
    adapted = [name for name, _ in model.named_modules() if name and check_target_module_exists(peft_config, name)]
    parts = [part_of(name, model_type) for name in adapted]
    if not adapted and not peft_config.target_parameters:
        raise ValueError(
            f"`target_modules` ({_shown(peft_config.target_modules)}) match no module of this `{model_type}` model, "
            f"with `exclude_modules` ({peft_config.exclude_modules}). Leave it out for the linear layers of the "
            f"language model, or use names that it has, such as {', '.join(_linear_layers(model))}."
        )
    _check_spread(peft_config.target_modules, model, adapted, frozen_parts(args))
    if args.projector_learning_rate is not None and "projector" not in parts:
        check_parts_are_known(model_type, "projector_learning_rate")
        saved = list(peft_config.modules_to_save or [])
        saved += [name for name in projector_modules(model) if not any(name.endswith(other) for other in saved)]
        peft_config = replace(peft_config, modules_to_save=saved)
    check_whole_modules(peft_config, model)
    return peft_config


def _check_spread(targets, model, adapted, frozen):
    """A name such as `q_proj` is one of the language model and, in many models, one of the vision tower as well."""
    names = [] if targets is None or isinstance(targets, str) else sorted(targets)
    found = {name: [module for module in adapted if f".{module}".endswith(f".{name}")] for name in names}
    for name in names:
        if not found[name]:
            logger.warning(f"`target_modules` names {name!r}, which adapts nothing. Remove or correct it.")

    def part(module):
        return part_of(module, model.config.model_type)

    elsewhere = [module for module in adapted if part(module) != "language model"]

    def message():
        pattern = f", or write '{_pattern(model, names)}'" if names else ""
        return (
            f"`target_modules` ({_shown(targets)}) adapt {len(elsewhere)} modules outside of the language model, such "
            f"as {elsewhere[0]}. Leave it out for the linear layers of the language model{pattern}."
        )

    for module in elsewhere:
        if part(module) in frozen:
            raise ValueError(f"`{frozen[part(module)]}=True`, but {message()}")
    if any(len({part(module) == "language model" for module in modules}) == 2 for modules in found.values()):
        logger.warning(message())


def _pattern(model, names=None):
    """Regular expression of the modules of the language model with these names; of its linear layers by default."""
    language_model = next((name for name in LANGUAGE_MODEL if hasattr(model.base_model, name)), None)
    layers = _linear_layers(model) if names is None else names
    if language_model is None or not layers:
        raise ValueError(
            f"The linear layers of the language model are not known for `{model.config.model_type}` models. Name the "
            "layers to adapt in `target_modules`."
        )
    return rf".*{language_model}\..*\.({'|'.join(sorted(layers))})"


def _linear_layers(model):
    """Last parts of the names (`list[str]`) of the language model's linear layers."""
    model_type = model.config.model_type
    names = [name for name, module in model.base_model.named_modules() if isinstance(module, torch.nn.Linear)]
    return sorted({name.rsplit(".")[-1] for name in names if part_of(name, model_type) == "language model"})


def _is_all_linear(targets):
    return isinstance(targets, str) and targets.lower() == "all-linear"


def _shown(targets):
    return targets if isinstance(targets, str) else ", ".join(sorted(targets))
