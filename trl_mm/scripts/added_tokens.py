"""Tokens that were added for an adapter: its base has no rows for them, and a merge must not lose them."""


def with_added_tokens(model, processor, adapter, **revision):
    """
    Give the base of an adapter as many embeddings as the adapter brings, before it is loaded into the base.

    Args:
        model ([`~transformers.PreTrainedModel`]): the base; changed.
        processor ([`~transformers.ProcessorMixin`]): processor of the adapter.
        adapter (`str`): id or path of the adapter.
        **revision: its revision.

    Raises:
        ValueError: the processor has tokens that neither the base nor the adapter has embeddings for.
    """
    from peft import load_peft_weights

    from ..tokens.added_tokens import tokens_without_embeddings

    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    rows = embeddings.weight.shape[0]
    layers = [embeddings] if head is None or head.weight is embeddings.weight else [embeddings, head]
    names = [name for name, layer in model.named_modules() if any(layer is other for other in layers)]
    weights = load_peft_weights(adapter, device="cpu", **revision)
    brought = [_rows_of(name, weights) for name in names]
    if None not in brought and len(set(brought)) == 1 and brought[0] != rows:
        rows = brought[0]
        model.resize_token_embeddings(rows, mean_resizing=False)
    tokens = tokens_without_embeddings(processor, model.config, rows)
    if tokens:
        raise ValueError(
            f"The processor of the adapter ({adapter}) has {len(tokens)} tokens, such as {tokens[0]!r}, that its base "
            f"has no embeddings for ({rows} rows). The adapter does not hold all of them either, so the merged model "
            "could not read them. Pass the base whose embeddings were resized for the training "
            "(`--base_model_name_or_path`), or train again with the embeddings in the adapter: "
            f"`--lora_modules_to_save {' '.join(name.rsplit('.')[-1] for name in names)}`."
        )


def _rows_of(name, weights):
    """Rows (`int`) of a layer that an adapter holds as a whole, or `None`."""
    found = [weight for key, weight in weights.items() if key.endswith(f".{name}.weight")]
    return found[0].shape[0] if found else None
