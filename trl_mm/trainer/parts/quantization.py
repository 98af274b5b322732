"""Quantized weights have no gradients: what PEFT trains as a whole, such as a projector, stays out of bitsandbytes."""

import copy

import torch
from transformers import BitsAndBytesConfig
from transformers.quantizers.auto import AutoQuantizationConfig
from transformers.quantizers.quantizers_utils import should_convert_module


def skip_quantizing_saved_modules(settings, peft_config):
    """
    Keep what PEFT trains as a whole from being quantized when the model is loaded.

    Args:
        settings (`dict`, *optional*): settings of a model or a trainer, with or without a `quantization_config`.
        peft_config ([`~peft.PeftConfig`], *optional*): what is trained.

    Returns:
        `dict` or `None`: the settings; if need be with another [`~transformers.BitsAndBytesConfig`].
    """
    quantization = (settings or {}).get("quantization_config")
    saved = getattr(peft_config, "modules_to_save", None)
    if not quantization or not saved:
        return settings
    if isinstance(quantization, dict):  # which transformers takes as well
        quantization = AutoQuantizationConfig.from_dict(quantization)
    if not isinstance(quantization, BitsAndBytesConfig):
        return settings
    quantization = copy.deepcopy(quantization)
    quantization.llm_int8_skip_modules = [*_skipped(quantization.llm_int8_skip_modules), *map(_anywhere, saved)]
    return {**settings, "quantization_config": quantization}


def check_whole_modules(peft_config, model):
    """
    Refuse to train as a whole what is quantized already.

    Args:
        peft_config ([`~peft.PeftConfig`]): what is trained.
        model ([`~transformers.PreTrainedModel`]): the model, with or without weights.

    Raises:
        ValueError: a module in `modules_to_save` is quantized by bitsandbytes.
    """
    quantization = getattr(model.config, "quantization_config", None) or {}
    settings = quantization if isinstance(quantization, dict) else quantization.to_dict()
    if settings.get("quant_method") != "bitsandbytes":
        return
    skipped = _skipped(settings.get("llm_int8_skip_modules"))
    linear = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    for saved in peft_config.modules_to_save or []:
        quantized = [name for name in linear if f".{saved}." in f".{name}." and should_convert_module(name, skipped)]
        if quantized:
            raise ValueError(
                f"`modules_to_save` trains {saved} as a whole, and its {quantized[0]} is quantized. Quantize the "
                f"model with `llm_int8_skip_modules={[*skipped, _anywhere(saved)]}` in its `BitsAndBytesConfig`; or "
                "leave out `projector_learning_rate`, which puts the projector there."
            )


def keep_gradients(model):
    """
    Keep bitsandbytes from packing the 4-bit weights of a model that trains. On CPUs with AVX-512 it does so when the
    model first runs without gradients, as to make pairs or to evaluate, and no gradient passes such a layer again.

    Args:
        model ([`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]): the policy, not wrapped.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def _skipped(modules):
    # transformers keeps the LM head whole by itself only as long as nothing is named
    return ["lm_head"] if modules is None else modules


def _anywhere(name):
    return f".*{name}"  # a pattern has to match from the start of a name, such as `model.multi_modal_projector`
