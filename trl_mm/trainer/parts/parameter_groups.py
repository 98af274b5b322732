"""Which parts of a model train, and the optimizer's groups for a learning rate of the projector.

What is unusual in it: the optimizer is made by transformers, whatever `optim` says, and its groups are split
afterwards, before it has a state and before DeepSpeed or FSDP takes the groups over.
"""

from collections import Counter

import torch
from accelerate.utils import is_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import ModulesToSaveWrapper

from .config import frozen_parts
from .model_parts import check_parts_are_known, part_of


def check_optimizer(args, optimizers=None):
    """
    Refuse what would go past a learning rate of the projector.

    Args:
        args ([`TrainedPartsConfig`]): arguments of the trainer.
        optimizers (`tuple`, *optional*): optimizer and scheduler that the user has made.

    Raises:
        ValueError: with `projector_learning_rate`, if someone else makes the optimizer or sets its learning rates.
    """
    if args.projector_learning_rate is None:
        return
    if optimizers is not None and optimizers[0] is not None:
        raise ValueError(
            "`projector_learning_rate` is for an optimizer that the trainer makes. Leave it out and give `optimizers` "
            "a group for the projector, or leave out `optimizers`."
        )
    plugin = getattr(args, "deepspeed_plugin", None)
    for name in ("optimizer", "scheduler"):
        if plugin is not None and name in plugin.deepspeed_config:
            raise ValueError(
                f"`projector_learning_rate` does not work with the `{name}` of a DeepSpeed configuration, which knows "
                f"one learning rate. Remove `{name}` from it and use `optim` and `lr_scheduler_type`."
            )


def freeze_parts(model, args):
    """
    Freeze the parts that `args` names, and check that they agree with what PEFT trains.

    Args:
        model ([`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]): the policy, not wrapped.
        args ([`TrainedPartsConfig`]): arguments of the trainer.

    Raises:
        ValueError: a part that shall be frozen is trained by PEFT; or the projector has a learning rate and is not
            trained.
    """
    frozen = frozen_parts(args)
    rate = args.projector_learning_rate
    model_type = model.config.model_type
    for setting in [*frozen.values(), *(["projector_learning_rate"] if rate is not None else [])]:
        check_parts_are_known(model_type, setting)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    for name, parameter in trained.items():
        part = part_of(name, model_type)
        if part in frozen and is_peft_model(model):  # PEFT sets `requires_grad` anew whenever adapters are switched
            raise ValueError(
                f"`{frozen[part]}=True`, and the PEFT configuration trains {name}. Leave out `{frozen[part]}`, or "
                f"keep `target_modules` and `modules_to_save` out of the {part}."
            )
        if part in frozen:
            parameter.requires_grad_(False)
    if rate is not None and not any(part_of(name, model_type) == "projector" for name in trained):
        raise ValueError(
            "`projector_learning_rate` is set and no weight of the projector is trained. Leave it out, or name the "
            "projector in `modules_to_save` of the PEFT configuration."
        )


def train_projector_in_float32(model):
    """
    Give a projector that trains beside adapters weights in float32, as PEFT does for the adapters. The steps of usual
    learning rates are smaller than half precision can add to a weight: nothing would move. What goes in and comes out
    keeps its data type. DeepSpeed and FSDP keep weights in float32 themselves, and need one data type in the model.

    Args:
        model ([`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]): the policy, not wrapped.
    """
    for name, module in model.named_modules():
        if isinstance(module, ModulesToSaveWrapper) and part_of(name, model.config.model_type) == "projector":
            outside = next(module.original_module.parameters())  # whose type may still change
            for trained in module.modules_to_save.values():
                if any(p.requires_grad and p.dtype in (torch.bfloat16, torch.float16) for p in trained.parameters()):
                    trained.float()
                    trained.register_forward_pre_hook(lambda _, inputs: tuple(x.float() for x in inputs))
                    trained.register_forward_hook(lambda _, inputs, output, outside=outside: output.to(outside.dtype))


def split_projector(optimizer, model, args):
    """
    Give the projector groups of its own, with `projector_learning_rate`. They come last: the first group's learning
    rate is the one that is logged.

    Args:
        optimizer (`torch.optim.Optimizer`): a new optimizer.
        model (`torch.nn.Module`): the model whose weights it has.
        args ([`TrainedPartsConfig`]): arguments of the trainer.

    Raises:
        ValueError: the optimizer has no groups with weights of the projector, as those have that work layer by layer.
    """
    rate = args.projector_learning_rate
    if rate is None:
        return
    model_type = model.config.model_type
    projector = {id(p) for name, p in model.named_parameters() if part_of(name, model_type) == "projector"}
    found = False
    for group in list(getattr(optimizer, "param_groups", [])):
        own = [p for p in group["params"] if id(p) in projector]
        if own:
            found = True
            group["params"] = [p for p in group["params"] if id(p) not in projector]
            optimizer.add_param_group({**group, "params": own, "lr": rate})
    if not found:
        raise ValueError(
            f"`projector_learning_rate` needs an optimizer with groups of weights, which `optim='{args.optim.value}'` "
            "is not here. Use 'adamw_torch', or leave it out."
        )


def trained_parts_table(model, args):
    """What trains, as a table (`str`) with a line for each part: trained weights, learning rate, layers with LoRA."""
    model_type = model.config.model_type
    weights, layers = Counter(), Counter()
    for name, parameter in model.named_parameters():
        count = getattr(parameter, "ds_numel", parameter.numel())  # under ZeRO-3 a process holds a part of each weight
        weights[part_of(name, model_type)] += count if parameter.requires_grad else 0
    for name, module in model.named_modules():
        layers[part_of(name, model_type)] += isinstance(module, BaseTunerLayer)
    rates = {part: args.learning_rate for part in weights}
    if args.projector_learning_rate is not None:
        rates["projector"] = args.projector_learning_rate
    lines = [f"{'part':16}{'trained weights':>16}{'learning rate':>16}{'layers with LoRA':>18}"]
    for part, count in sorted(weights.items()):
        trained = f"{count:16,}{rates[part]:16g}" if count else f"{'frozen':>16}{'–':>16}"
        lines.append(f"{part:16}{trained}{layers[part] or '–':>18}")
    return "\n".join(lines)
