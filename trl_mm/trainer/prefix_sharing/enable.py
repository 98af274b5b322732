"""What both trainers do to policy and reference: prompts and images are computed once, and no process waits."""

import logging

from accelerate.utils import is_peft_model

from .dummy_image import DummyImage
from .image_features import SharedFeatures, same_vision_part
from .shared_forward import share_prefixes, unsupported_reason


logger = logging.getLogger(__name__)


def bare_models(trainer):
    """Policy and, if there is one, reference (`list`), without what PEFT and accelerate put around them."""
    models = [trainer.model]
    if trainer.ref_model is not None:
        models.append(trainer.accelerator.unwrap_model(trainer.ref_model))
    return [model.get_base_model() if is_peft_model(model) else model for model in models]


def enable_prefix_sharing(trainer, collator, reason=None, reference_reads_images=True, forests=None):
    """
    Let policy and reference share prefixes, and image features where they encode images alike.

    Args:
        trainer ([`~transformers.Trainer`]): trainer with `model`, `ref_model` and `accelerator`.
        collator ([`PreferenceCollator`]): its collator, which then returns images once per prompt.
        reason (`str`, *optional*): what keeps the trainer itself from it.
        reference_reads_images (`bool`, *optional*, defaults to `True`): whether the reference runs beside the policy.
        forests ([`Forests`], *optional*): lays out what the rows of a batch share, if the trainer's batches go to the
            fused LM head as the collator makes them.
    """
    if not can_share_prefixes(trainer, reason):
        return
    models = bare_models(trainer)
    collator.images_per_prompt = True
    collator.images_per_group = forests is not None
    backbones = [model.base_model for model in models]
    encode_once = reference_reads_images and same_vision_part(*backbones)
    features = SharedFeatures(backbones[0]) if encode_once else None
    for model in models:
        share_prefixes(model, features, forests)


def can_share_prefixes(trainer, reason=None):
    """
    Whether the models of a trainer share prefixes (`bool`); why they do not is logged.

    Args:
        trainer ([`~transformers.Trainer`]): trainer with `model`, `ref_model` and `accelerator`.
        reason (`str`, *optional*): what keeps the trainer itself from it.
    """
    if not trainer.args.prefix_sharing:
        return False
    # The policy with what PEFT puts around it, and a reference that may attend in another way
    models = [trainer.model, *bare_models(trainer)[1:]]
    reason = reason or next(filter(None, map(unsupported_reason, models)), None)
    if reason is not None:
        logger.info(f"Prefixes are not shared: {reason}. Training goes on in TRL's layout.")
    return reason is None


def dummy_image(trainer):
    """[`DummyImage`] for batches without images, or `None` where no process would wait for it."""
    if trainer.accelerator.num_processes == 1 or not (trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled):
        return None
    sharded = trainer.is_fsdp_enabled or trainer.args.deepspeed_plugin.zero_stage == 3
    return DummyImage(bare_models(trainer), trainer.processing_class, sharded)
