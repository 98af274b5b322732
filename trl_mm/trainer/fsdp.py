"""What a vision-language model needs so that FSDP2 trains it as one process would, and resumes from checkpoints."""

import logging
from dataclasses import replace

import torch
from accelerate.utils import is_peft_model
from torch.distributed.fsdp import FSDPModule
from transformers import TrainerCallback


logger = logging.getLogger(__name__)


def prepare_plugin(plugin):
    """
    Let models return what they have computed in the data type that they have computed it in, and warn of FSDP1.

    In mixed precision accelerate 1.15 has FSDP2 cast all outputs to half precision, here the log-probability of each
    token, in float32. Their sum over an answer of 200 tokens would be off by 1 or 2, and rewards are small differences
    of such sums.

    Args:
        plugin ([`~accelerate.FullyShardedDataParallelPlugin`]): FSDP's settings, before a model is wrapped; changed.
    """
    if plugin.fsdp_version == 1:
        logger.warning("FSDP1 has not been tried. Set `fsdp_version: 2` in the accelerate config, as `fsdp2` has it.")
    elif plugin.mixed_precision_policy is not None:
        plugin.mixed_precision_policy = replace(plugin.mixed_precision_policy, output_dtype=None)


def prepare_for_fsdp(trainer):
    """
    Make up for what FSDP2, as accelerate 1.15 starts it, misses in vision-language models.

    Args:
        trainer ([`~transformers.Trainer`]): the trainer, before its model is wrapped.
    """
    model = trainer.model.get_base_model() if is_peft_model(trainer.model) else trainer.model
    # transformers names the layers of whole families, for LLaVA also those of CLIP's text encoder, and accelerate will
    # not split a model by a layer that it does not have
    present = {type(module).__name__ for module in model.modules()}
    model._no_split_modules = present & set(model._no_split_modules or ())

    # Only its own forward would gather the LM head, and TRL's fused head reads the weight instead: it would put it
    # together by itself, and each process would keep the gradient of its own rows alone. For text models accelerate
    # gathers the head with the final norm, which it does not find in a vision-language model.
    def gather_lm_head(backbone, args, outputs):
        lm_head = model.get_output_embeddings()
        if isinstance(lm_head, FSDPModule):
            lm_head.unshard()

    model.base_model.register_forward_hook(gather_lm_head)
    trainer.add_callback(ZeroGradients())


class ZeroGradients(TrainerCallback):
    """
    Gradients of zero for weights that nothing reads, as LLaVA's last vision layer: without one they have no state in
    the optimizer, and torch refuses to load a checkpoint that lacks the state of a weight in training. Once they have
    one they get no more, as each would let the optimizer's weight decay shrink them, which it does not elsewhere.
    """

    def on_pre_optimizer_step(self, args, state, control, optimizer=None, **kwargs):
        for group in optimizer.param_groups:
            for weight in group["params"]:
                if weight.requires_grad and weight.grad is None and weight not in optimizer.state:
                    weight.grad = torch.zeros_like(weight)
