"""Adapters beside tokens that were added for the training: without their embeddings, nobody could read them later."""

from peft import PeftModel
from peft.utils import ModulesToSaveWrapper

from ...tokens.added_tokens import tokens_without_embeddings


def check_added_tokens(model, processor):
    """
    Refuse to train adapters of a model whose embeddings were resized, or should have been, unless the adapter holds
    the embeddings as a whole. PEFT sees that a model was resized only where its configuration has `vocab_size` at
    the top, which vision-language models do not.

    Args:
        model ([`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]): the policy; without adapters all is saved.
        processor ([`~transformers.ProcessorMixin`]): its processor.

    Raises:
        ValueError: embeddings would be lost, or tokens have none.
    """
    if not isinstance(model, PeftModel):
        return
    base = model.get_base_model()
    layers = [layer for layer in (base.get_input_embeddings(), base.get_output_embeddings()) if layer is not None]
    names = [name.rsplit(".")[-1] for name, module in base.named_modules() if any(module is part for part in layers)]
    weight = layers[0].weight
    rows = getattr(weight, "ds_shape", weight.shape)[0]  # under ZeRO-3 the weight is elsewhere
    missing = tokens_without_embeddings(processor, base.config, rows)
    if missing:
        raise ValueError(
            f"The processor has {len(missing)} tokens, such as {missing[0]!r}, that the model has no embeddings for "
            f"({rows} rows). Give it some (`model.resize_token_embeddings`), save both into a folder, and train that."
        )
    loaded = _rows_on_disk(base.config)
    if loaded not in (None, rows) and not all(isinstance(layer, ModulesToSaveWrapper) for layer in layers):
        raise ValueError(
            f"The model has {rows} embeddings, but `{base.config.name_or_path}`, from which it was loaded, has "
            f"{loaded}: the adapter would be saved without those that were added. Save the resized model into a "
            f"folder and train that, or keep its embeddings in the adapter (`modules_to_save={sorted(set(names))}`)."
        )


def _rows_on_disk(config):
    """Embeddings (`int`) of the model that a configuration was loaded with; `None` if that cannot be found out."""
    if not config.name_or_path:
        return None
    try:
        stored = type(config).from_pretrained(config.name_or_path)
    except (OSError, ValueError):
        return None
    return getattr(stored.get_text_config(), "vocab_size", None)
