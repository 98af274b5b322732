"""
Fewer and fuller kernels: Liger's, compiled layers, and adapters that do not cast what they read.

What is unusual in it: layers of the language model are changed in place, one by one, in policy and reference alike.
The forward of the whole model stays as it is: shared prefixes have other lengths in every batch.
"""

import logging
from types import MethodType

import torch
from accelerate.utils import DynamoBackend
from peft.tuners.lora import Linear

from ..tokens.families import LANGUAGE_MODEL


logger = logging.getLogger(__name__)

HALF = (torch.bfloat16, torch.float16)
WITHOUT_LAYER_KERNELS = ("cross_entropy", "fused_linear_cross_entropy")  # Liger's that replace the model's forward


def refuse_flex_attention(implementation):
    """Refuse `flex_attention` (`str` or `dict` of them, as in `attn_implementation`) before a model is loaded."""
    names = implementation.values() if isinstance(implementation, dict) else [implementation]
    if "flex_attention" in names:
        raise ValueError(
            "`attn_implementation='flex_attention'` is compiled anew for each length of a batch, and again whenever "
            "policy and reference take turns: on an H200 no step ended within minutes. Use "
            "`attn_implementation='sdpa'`."
        )


def check_kernels(args):
    """
    Refuse kernels that cannot work, before anything is loaded.

    Args:
        args ([`~transformers.TrainingArguments`]): arguments of a trainer.

    Raises:
        ValueError: `flex_attention`, Liger's kernels without a GPU, or one of them that replaces the model's forward.
    """
    init = getattr(args, "model_init_kwargs", None)
    if isinstance(init, dict):
        refuse_flex_attention(init.get("attn_implementation"))
    if not args.use_liger_kernel:
        return
    if args.use_cpu or not torch.accelerator.is_available():
        raise ValueError(
            "`use_liger_kernel=True` needs a GPU: the kernels are written in Triton. Leave it out to train on a CPU."
        )
    settings = args.liger_kernel_config or {}
    for name in WITHOUT_LAYER_KERNELS:
        if settings.get(name):
            raise ValueError(
                f"`liger_kernel_config` sets `{name}`, which replaces the model's forward: log-probabilities come "
                "from TRL's fused LM head here. Leave it out; the kernels of the layers are used."
            )
    args.liger_kernel_config = {**settings, **dict.fromkeys(WITHOUT_LAYER_KERNELS, False)}


def compile_no_whole_model(accelerator):
    """Keep accelerate from compiling the model as a whole, which breaks off at every step of packing."""
    accelerator.state.dynamo_plugin.backend = DynamoBackend.NO


def prepare_kernels(models, args, is_sharded):
    """
    Put the kernels that the arguments ask for into models that are about to train.

    Args:
        models (`list` of [`~transformers.PreTrainedModel`]): policy and, if there is one, reference, without wrappers.
        args ([`~transformers.TrainingArguments`]): arguments of the trainer.
        is_sharded (`bool`): whether DeepSpeed or FSDP put their own hooks on layers.

    Raises:
        ValueError: Liger has no kernels for the language model, or layers cannot be compiled.
    """
    if args.torch_compile and is_sharded:
        raise ValueError(
            "`torch_compile=True` does not go with DeepSpeed or FSDP here, whose hooks would be compiled too. Leave "
            "it out, or train with DDP (`--accelerate_config ddp`)."
        )
    for model in models:
        language = next(
            (getattr(model.base_model, name) for name in LANGUAGE_MODEL if hasattr(model.base_model, name)),
            model.base_model,
        )
        if args.use_liger_kernel:
            apply_liger(language, args.liger_kernel_config)
        if args.torch_compile:
            compile_layers(language, args)
        spare_casts(model)


def apply_liger(language_model, settings):
    """
    Liger's kernels in the layers of a language model: RMSNorm, rotary positions, SwiGLU. transformers has them put
    into the policy only, and by the type of the whole model, of which Liger does not know LLaVA-NeXT's.
    """
    from liger_kernel.transformers import _apply_liger_kernel_to_instance
    from liger_kernel.transformers.monkey_patch import MODEL_TYPE_TO_APPLY_LIGER_FN

    kind = language_model.config.model_type
    if kind not in MODEL_TYPE_TO_APPLY_LIGER_FN:
        raise ValueError(
            f"`use_liger_kernel=True`: this version of liger-kernel has no kernels for `{kind}` language models. "
            "Leave it out, or install a newer one."
        )
    _apply_liger_kernel_to_instance(model=language_model, **settings)


def compile_layers(language_model, args):
    """Compile each layer of a language model, in place, for lengths that differ from batch to batch."""
    layers = getattr(language_model, "layers", None)
    if layers is None:
        raise ValueError(
            f"`torch_compile=True`: no layers are known of `{language_model.config.model_type}` language models. "
            "Leave it out."
        )
    for layer in layers:
        layer.compile(dynamic=True, backend=args.torch_compile_backend, mode=args.torch_compile_mode)


def spare_casts(model):
    """
    Let adapters in float32 read half precision as it is under autocast. PEFT casts it to float32, and autocast back
    again, in every adapter and once more where activations are recomputed. Without dropout results are the same, bit
    by bit; the dropout of an adapter then is one of half precision.
    """
    for module in model.modules():
        if type(module) is Linear and not module.lora_variant:
            module._cast_input_dtype = MethodType(_cast_unless_autocast, module)


def _cast_unless_autocast(layer, x, dtype):
    if x is not None and x.dtype in HALF and torch.is_autocast_enabled(x.device.type):
        return x
    return type(layer)._cast_input_dtype(layer, x, dtype)
