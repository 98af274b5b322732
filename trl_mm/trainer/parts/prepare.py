"""What a trainer does to the parts of a model before it trains; `--dry_run` does it to one without weights."""

from ...generation.sight import check_image_features, check_sees_images
from ...tokens.image_tokens import check_processor
from .added_tokens import check_added_tokens
from .data_types import settle_data_types
from .parameter_groups import freeze_parts, train_projector_in_float32
from .quantization import keep_gradients


def prepare_parts(model, processor, args, mixed_precision, ref_model=None, say=True):
    """
    Settle which parts of a model train, and in which data type.

    Args:
        model ([`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]): the policy, not wrapped.
        processor ([`~transformers.ProcessorMixin`]): its processor.
        args ([`TrainedPartsConfig`]): arguments of the trainer.
        mixed_precision (`str` or `None`): as in [`settle_data_types`]; `None` where DeepSpeed or FSDP keep weights
            that train in float32 themselves.
        ref_model ([`~transformers.PreTrainedModel`], *optional*): reference model.
        say (`bool`, *optional*, defaults to `True`): whether to log what changes.

    Returns:
        `dict`: as from [`settle_data_types`].

    Raises:
        ValueError: the model takes no images, its processor is that of another, its adapters would be saved without
            embeddings that were added, or its parts cannot train as `args` says.
    """
    check_processor(processor, model.config)
    check_sees_images(model)
    check_image_features(model, processor)
    check_added_tokens(model, processor)
    freeze_parts(model, args)
    keep_gradients(model)
    if mixed_precision is None:
        return {}
    train_projector_in_float32(model)
    return settle_data_types(model, mixed_precision, ref_model, say)
