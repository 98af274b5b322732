"""The policy as answers are sampled from it, also where several processes share its weights.

What is unusual in it: every process generates on its own, with whole weights. Processes finish at different times, and
one that waited for the others in each forward pass, as ZeRO-3 would have it, would wait for ever.
"""

from contextlib import contextmanager

from transformers.integrations import is_deepspeed_zero3_enabled
from trl.models import unwrap_model_for_generation

from ...generation.merged_adapters import merged_when_generating


@contextmanager
def generation_model(trainer):
    """
    Context with the policy, unwrapped. Under ZeRO-3 each process has all of its weights meanwhile. LoRA adapters are
    merged from the first answer on, as `merge_adapters_for_generation` says, and the weights are put back at the end.
    """
    kwargs = trainer.args.gradient_checkpointing_kwargs
    unwrapping = unwrap_model_for_generation(
        trainer.model_wrapped, trainer.accelerator, gradient_checkpointing_kwargs=kwargs
    )
    merge = getattr(trainer.args, "merge_adapters_for_generation", None)  # not a setting of TRL's own configurations
    with unwrapping as model, _alone(trainer.model_wrapped), merged_when_generating(model, merge):
        yield model


@contextmanager
def _alone(engine):
    """TRL leaves one hook of ZeRO-3: before each forward it compares with the others what this process has entered."""
    optimizer = getattr(engine, "optimizer", None)
    offload = getattr(optimizer, "parameter_offload", optimizer)
    if not hasattr(offload, "get_param_coordinator"):
        yield
        return
    coordinator = offload.get_param_coordinator()
    coordinator.reset_step = lambda: None
    try:
        yield
    finally:
        del coordinator.reset_step


def check_generation(trainer):
    """
    Refuse what would stop processes in the middle of an answer, or for ever.

    Args:
        trainer ([`MMOnlineDPOTrainer`] or [`MMRLOOTrainer`]): the trainer.

    Raises:
        ValueError: weights are spread over processes and would stay so during generation.
    """
    if trainer.use_vllm or getattr(trainer, "offline_probability", 0) == 1:
        return
    if trainer.is_fsdp_enabled:
        raise ValueError(
            "Answers cannot be sampled under FSDP, whose processes cannot generate each on its own. Use DDP or "
            "DeepSpeed (`--accelerate_config zero3`), or set `use_vllm=True`."
        )
    if not trainer.args.ds3_gather_for_generation and is_deepspeed_zero3_enabled():
        raise ValueError(
            "`ds3_gather_for_generation=False` does not work under ZeRO-3: transformers encodes images before the "
            "model's forward would put weights together. Leave it `True`, use ZeRO-2, or set `use_vllm=True`."
        )
