"""Whether the device of this machine computes in the half precision that training asks for."""

import logging

import torch
from transformers.utils import is_torch_bf16_gpu_available, is_torch_xla_available


logger = logging.getLogger(__name__)

WITHOUT_BF16 = (
    "`--bf16 False --fp16 True` trains in float16 (with `--dtype float16` for adapters, `--dtype float32` for all "
    "weights), `--bf16 False` alone in float32"
)


def check_precision(args):
    """
    Refuse half precision that there is no device for, and warn of one that the device imitates.

    Args:
        args ([`~transformers.TrainingArguments`]): settings of a trainer, before their own checks. `bf16` is `None`
            where TRL sets it, to `True` without `fp16`.

    Raises:
        ValueError: `bf16` or `fp16` without a GPU, or `bf16` on a GPU that does not have it.
    """
    bf16 = not args.fp16 if args.bf16 is None else args.bf16
    if args.use_cpu or is_torch_xla_available() or not (bf16 or args.fp16):
        return
    if not torch.accelerator.is_available():
        wanted = "`bf16`, which is on by default," if bf16 else "`fp16`"
        raise ValueError(
            f"{wanted} needs a GPU, and torch {torch.__version__} sees none. Pass "
            f"{'`--bf16 False`' if bf16 else '`--fp16 False --bf16 False`'} to train on the CPU, in float32."
        )
    if bf16 and not is_torch_bf16_gpu_available():
        raise ValueError(f"`bf16`, which is on by default, is not for {device_name()}. {WITHOUT_BF16}.")
    if bf16 and torch.cuda.is_available() and not torch.cuda.is_bf16_supported(including_emulation=False):
        logger.warning("%s has no bfloat16 and imitates it, which is slow. %s.", device_name(), WITHOUT_BF16)


def device_name():
    """Name of the GPU (`str`)."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"the {torch.accelerator.current_accelerator().type} device of this machine"
