"""
Data types of weights in training: float32 for what trains, for what is frozen the half precision that is computed in.

What is unusual in it: nothing is loaded again and no module is replaced. A weight changes its type in place, so that
an optimizer, tied weights and a reference that was made before still see the same one.
"""

import logging
from contextlib import contextmanager

import torch
from accelerate.utils import is_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer


logger = logging.getLogger(__name__)

HALF = (torch.bfloat16, torch.float16)


def settle_data_types(model, mixed_precision, reference=None, say=True):
    """
    Give each weight the data type that it trains well in. The steps of usual learning rates are smaller than half
    precision can add to a weight, and float16 cannot hold the gradients that are computed in another type.

    | what | with `bf16` or `fp16` | with neither |
    |---|---|---|
    | adapters | float32 | float32 |
    | other weights that train | float32 | as loaded, with a warning; float32 if the model is in float16 |
    | frozen weights in bfloat16 | as loaded | as loaded; float32 if others are in float16 |
    | frozen weights in float16 | bfloat16 with `bf16` | float32 |

    What is quantized stays as it is, and so do adapters on it, which TRL keeps in bfloat16.

    Args:
        model ([`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]): the policy, frozen where it does not train,
            and not wrapped.
        mixed_precision (`str`): what training computes in: `"bf16"`, `"fp16"`, or `"no"` for the types of weights.
        reference ([`~transformers.PreTrainedModel`], *optional*): reference model. It gets the types of the policy:
            else the two would differ, by rounding, before the first step.
        say (`bool`, *optional*, defaults to `True`): whether to log what changes.

    Returns:
        `dict[str, torch.dtype]`: the type in which to save each weight that trains and was not loaded in float32.
    """
    half = _computed_in(mixed_precision)
    quantized = getattr(model, "is_loaded_in_4bit", False) or getattr(model, "is_loaded_in_8bit", False)
    adapters = _adapters(model)
    found = _in_half_precision(model)
    frozen_type = _frozen_types(found, half)
    wanted, saved = {}, {}
    for name, weight in found.items():
        kept_whole = weight.requires_grad and id(weight) not in adapters and half is not None and not quantized
        if kept_whole and not is_peft_model(model):
            saved[name] = frozen_type[weight.dtype]
        in_float32 = kept_whole or (id(weight) in adapters and not quantized)
        wanted[name] = torch.float32 if in_float32 else frozen_type[weight.dtype]
    if say:
        _say(found, wanted, half, adapters, quantized)
    for name, weight in found.items():
        weight.data = weight.data.to(wanted[name])
    if reference is not None:
        _settle_reference(reference, dict(model.named_parameters()), half)
    if half is not None:
        for part in (model, reference) if reference is not None else (model,):
            _let_norms_read_float32(part)
    return saved


@contextmanager
def in_saved_types(model, saved):
    """Context in which the weights of a model have the types of [`settle_data_types`] to save them in."""
    kept = {}
    for name, weight in model.named_parameters():
        if name in saved:
            kept[name] = weight.data
            weight.data = weight.data.to(saved[name])
    try:
        yield
    finally:
        for name, weight in model.named_parameters():
            if name in kept:
                weight.data = kept[name]


def _computed_in(mixed_precision):
    """Type (`torch.dtype`) that autocast computes in; `None` without autocast."""
    return {"no": None, "fp16": torch.float16}.get(mixed_precision, torch.bfloat16)


def _in_half_precision(model):
    # Quantized weights are of classes of their own, and may be stored in packs that look like half precision
    return {
        name: weight
        for name, weight in model.named_parameters()
        if type(weight) is torch.nn.Parameter and weight.dtype in HALF
    }


def _frozen_types(found, half):
    """Type for frozen weights, by the type that they have."""
    types = {dtype: dtype for dtype in HALF}
    if half == torch.bfloat16:
        types[torch.float16] = torch.bfloat16
    elif half is None and any(weight.dtype == torch.float16 for weight in found.values()):
        types = dict.fromkeys(HALF, torch.float32)  # without autocast all must have the same type
    return types


def _settle_reference(reference, policy, half):
    found = _in_half_precision(reference)
    frozen_type = _frozen_types(found, half)
    for name, weight in found.items():
        in_float32 = name in policy and policy[name].dtype == torch.float32
        weight.data = weight.data.to(torch.float32 if in_float32 else frozen_type[weight.dtype])


def _let_norms_read_float32(model):
    """On CPUs autocast leaves out layer norms, and torch refuses those in half precision to read float32."""
    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm) and module.weight is not None and module.weight.dtype in HALF:
            module.register_forward_pre_hook(_in_own_type_on_cpu)


def _in_own_type_on_cpu(norm, inputs):
    return tuple(x.to(norm.weight.dtype) if x.device.type == "cpu" else x for x in inputs)


def _adapters(model):
    """Ids of the weights of all adapters, also of one that is the reference."""
    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    parts = [getattr(layer, name) for layer in layers for name in layer.adapter_layer_names if hasattr(layer, name)]
    return {id(weight) for part in parts if isinstance(part, torch.nn.Module) for weight in part.parameters()}


def _say(found, wanted, half, adapters, quantized):
    float16 = any(w.dtype == torch.float16 and wanted[name] != torch.float16 for name, w in found.items())
    trained = {n: w for n, w in found.items() if w.requires_grad and id(w) not in adapters}
    if float16 and half is None:
        logger.warning(
            "The model is in float16, which gradients do not fit, and neither `bf16` nor `fp16` is set: all its "
            "weights become float32. Set `bf16=True` to keep what is frozen in half of that memory."
        )
    elif float16:
        logger.warning(
            "The model is in float16, and `bf16=True` computes in bfloat16: frozen weights become bfloat16%s. Load it "
            "with `dtype` bfloat16 to say so yourself, or set `fp16=True` for float16.",
            "" if quantized else ", those that train float32",
        )
    elif trained and half is None and not quantized:
        logger.warning(
            "%s trains in bfloat16, to which the steps of usual learning rates are too small to be added: almost all "
            "are rounded away. Set `bf16=True`, which keeps what trains in float32 and computes in bfloat16, or load "
            "the model with `dtype` float32.",
            next(iter(trained)),
        )
    if any(wanted[name] == torch.float32 for name in trained) and half is not None:
        logger.info(
            "Weights that train are kept in float32, and so are those of a reference model: half precision would "
            "round away the steps of usual learning rates. They are computed in %s. Checkpoints hold them in float32; "
            "the trained model is saved in half precision, as it was loaded.",
            str(half).removeprefix("torch."),
        )
