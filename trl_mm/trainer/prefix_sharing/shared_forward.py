"""The prompt is computed once: both answers to it become branches of one sequence, under the model.

What is unusual in it: TRL's loss does not know. It hands the model rows `i` and `i + B`, the answers to one prompt,
and gets back the fields of TRL's `FusedCausalLMOutput` for these rows. In between they are one row, see `packing.py`,
and the LM head sees only the hidden states that predict something.
"""

import functools
import types
from dataclasses import replace

import torch

from ...tokens.families import FAMILIES, family_of
from ...tokens.processor import TOKEN_INPUTS
from .attention import MASKS, SHARED_SDPA, additive_mask, boolean_mask
from .forest import Forests
from .packing import pack_pairs, score_again


# What TRL's `FusedCausalLMOutput` has for each token
TOKEN_OUTPUTS = ("log_probs", "entropy", "log_sum_sq_probs", "mean_logits", "is_top1")


def unsupported_reason(model):
    """Reason (`str`) why prefixes cannot be shared for a model, or `None`."""
    text_config, inputs = model.config.get_text_config(), family_of(model.config).prefix_inputs
    attention = text_config._attn_implementation
    if inputs is None:
        supported = [name for name, family in FAMILIES.items() if family.prefix_inputs]
        return f"it is not supported for `{model.config.model_type}` models (supported: {', '.join(supported)})"
    if attention not in MASKS:
        return f"it needs an attention that takes a mask ({', '.join(MASKS)}), and this model uses {attention}"
    window = getattr(text_config, "sliding_window", None)
    if window is not None and inputs != "image_blocks":
        return f"the model attends to a sliding window of {window} tokens"
    if any(config.is_prompt_learning for config in getattr(model, "peft_config", {}).values()):
        return "prompt-learning adapters put tokens of their own in front"
    if hasattr(text_config, "output_router_logits"):
        return "mixture-of-experts models balance their load over TRL's layout"
    return None


def share_prefixes(model, features=None, forests=None):
    """
    Let a model with TRL's fused LM head compute each prompt once. Images are then expected once per prompt.

    Only calls with `fused_lm_head=True` change; `generate` and the plain forward are as they were. Such calls take
    `num_branches`, the answers per prompt, 2 by default, and `scored_again`: the last answers then are the first ones
    once more, with other labels, and are scored without being computed. With `groups` (`torch.LongTensor` of shape
    `(batch_size,)`), images are expected once per group, and rows of one group share all that they begin with, see
    [`pack_forest`].

    Args:
        model ([`~transformers.PreTrainedModel`]): model that `trl.trainer.utils.add_fused_lm_head` was applied to.
        features ([`SharedFeatures`], *optional*): image features that it shares with the model that reads each batch
            before or after it.
        forests ([`Forests`], *optional*): what lays out batches with `groups`, for all models that read a batch.
    """
    forests = Forests() if forests is None else forests
    fused_forward = model.forward
    text_config = model.config.get_text_config()
    if text_config._attn_implementation == "sdpa":
        text_config._attn_implementation = SHARED_SDPA
    pad_token_id = text_config.pad_token_id or 0
    build_inputs = INPUTS[family_of(model.config).prefix_inputs]

    @functools.wraps(type(model).forward)
    def forward(
        self, *args, fused_lm_head=False, labels=None, num_branches=2, scored_again=False, groups=None, **kwargs
    ):
        if not fused_lm_head:
            if labels is not None:
                kwargs["labels"] = labels
            return fused_forward(*args, **kwargs)
        rows = {name: kwargs.pop(name) for name in TOKEN_INPUTS if name in kwargs}
        batch = rows["input_ids"]
        if features is not None:
            kwargs = features.take(batch, kwargs)
        num_computed = num_branches - scored_again
        computed = num_computed * len(labels) // num_branches
        rows = {name: value[:computed] for name, value in rows.items()}
        if groups is None:
            pairs = pack_pairs(rows["input_ids"], labels[:computed], num_computed, pad_token_id)
        else:
            pairs = forests.pack(rows["input_ids"], labels[:computed], groups, pad_token_id, batch)
        if scored_again:
            pairs = score_again(pairs, labels[computed:])

        def keep_predicting(backbone, args, outputs):
            if features is not None and "mm_encoder_outputs" not in kwargs:
                features.keep(batch, outputs.image_outputs)
            outputs.last_hidden_state = outputs.last_hidden_state[pairs.predicting][None]  # (1, num_predicted, H)
            return outputs

        # Looked up on each call, as TRL does: FSDP replaces it
        hook = self.base_model.register_forward_hook(keep_predicting)
        try:
            outputs = fused_forward(
                *args,
                input_ids=pairs.input_ids,
                **build_inputs(self, pairs, {**rows, **kwargs}),
                shift_labels=pairs.predicted[None],
                fused_lm_head=True,
                **kwargs,
            )
        finally:
            hook.remove()
        fields = {name: getattr(outputs, name) for name in TOKEN_OUTPUTS}
        unpacked = {name: None if value is None else pairs.unpack(value[0]) for name, value in fields.items()}
        return replace(outputs, **unpacked, label_mask=labels[:, 1:] != -100)

    model.forward = types.MethodType(forward, model)


def causal(model, pairs, inputs):
    """What the language model reads beside tokens: causal attention, one position per token."""
    mask = MASKS[model.config.get_text_config()._attn_implementation](pairs, model.dtype)
    return {"attention_mask": mask, "position_ids": pairs.position_ids}


def grid_positions(model, pairs, inputs):
    """Causal attention; an image token has its place in time, height and width as positions, `(3, B, S + T)`."""
    grids, rows = inputs.get("image_grid_thw"), inputs["input_ids"]
    if grids is None:
        return causal(model, pairs, inputs)
    mask = inputs["attention_mask"][pairs.leader]
    # Images come once for each packed row, and stand before all that its rows differ in
    positions, _ = model.base_model.get_rope_index(
        rows[pairs.leader],
        inputs["mm_token_type_ids"][pairs.leader],
        image_grid_thw=grids,
        attention_mask=mask,
    )  # (3, B, length)
    last = mask.sum(1)[:, None] - 1  # (B, 1)
    place, packed = pairs.position_ids, torch.arange(len(mask), device=mask.device)[:, None]
    behind = (place - last).clamp(min=0)  # text beyond the end of the row that stands first goes on by ones
    return {**causal(model, pairs, inputs), "position_ids": positions[:, packed, torch.minimum(place, last)] + behind}


def image_blocks(model, pairs, inputs):
    """The tokens of an image also attend to one another, and some layers only to a window; one position per token."""
    config, place = model.config.get_text_config(), pairs.position_ids
    is_image = pairs.pack(inputs["token_type_ids"]) == 1  # (B, S + T)
    block = (~is_image).cumsum(1)  # the same number within an image
    same_image = (block[:, :, None] == block[:, None]) & is_image[:, :, None] & is_image[:, None]
    allowed = boolean_mask(pairs.until) | same_image[:, None]
    near = place[:, :, None] - place[:, None] < config.sliding_window
    masks = {"full_attention": allowed, "sliding_attention": allowed & near[:, None]}
    if config._attn_implementation != SHARED_SDPA:
        masks = {name: additive_mask(mask, model.dtype) for name, mask in masks.items()}
    return {"attention_mask": masks, "position_ids": pairs.position_ids}


# `prefix_inputs` of a family: what its language model reads beside tokens, from packed pairs and TRL's inputs
INPUTS = {"causal": causal, "grid_positions": grid_positions, "image_blocks": image_blocks}
