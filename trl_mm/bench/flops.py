"""Floating-point operations of a DPO step on image pairs that no layout can avoid."""


def dpo_step_flops(model, prompts, answers, patches, trains_all, checkpointing, cached_reference):
    """
    Operations of one step in which every prompt and every image is computed once per model.

    A forward pass takes two operations per weight and token, and four per head dimension for each token attended to; a
    backward pass twice that, or the same where weights are frozen and only activations need gradients.

    Args:
        model ([`~transformers.PreTrainedModel`]): model of the LLaVA family.
        prompts (`list[int]`): tokens of each prompt, image tokens included.
        answers (`list[list[int]]`): tokens of the answers to each prompt.
        patches (`int`): patches that the vision tower reads, for all rows together.
        trains_all (`bool`): whether all weights are trained, and not only adapters on the language model.
        checkpointing (`bool`): whether the language model runs forward again in the backward pass.
        cached_reference (`bool`): whether the reference needs no pass of its own.

    Returns:
        `float`: operations of the step, the optimizer's not counted.
    """
    config = model.config.get_text_config()
    width = config.num_attention_heads * (
        getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    )
    head = config.vocab_size * config.hidden_size
    backbone = model.base_model
    weights = sum(p.numel() for p in backbone.language_model.parameters()) - head  # without the embedding
    language = 0.0
    for prompt, lengths in zip(prompts, answers, strict=True):
        attended = prompt**2 / 2 + sum(length * (prompt + length / 2) for length in lengths)
        language += 2 * weights * (prompt + sum(lengths)) + 4 * config.num_hidden_layers * width * attended
        language += 2 * head * sum(lengths)
    vision = 2 * patches * sum(p.numel() for name, p in backbone.named_parameters() if "language_model." not in name)
    backward = 2 if trains_all else 1
    reference = 0 if cached_reference else 1
    step = language * (1 + backward + checkpointing + reference)
    return step + vision * ((1 + backward + reference) if trains_all else 1)
