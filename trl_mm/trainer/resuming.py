"""How training goes on from a checkpoint."""

from accelerate.utils import is_peft_model


def loads_saved_weights(trainer, folder, model):
    """
    Load the weights of a checkpoint into a model that nothing shards or adapts.

    transformers 5.23 saves vision-language models under names that its Trainer does not find in the model again: it
    would warn and go on with the initial weights.

    Args:
        trainer ([`~transformers.Trainer`]): the trainer.
        folder (`str`): folder of the checkpoint.
        model ([`~transformers.PreTrainedModel`]): the model.

    Returns:
        `bool`: whether it did; otherwise the weights are left to transformers, which finds them.
    """
    if is_peft_model(model) or trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        return False
    saved = type(model).from_pretrained(folder, dtype=model.dtype)
    model.load_state_dict(saved.state_dict())
    return True
