"""The prompt is computed once: both answers to it become branches of one sequence, under the model.

What is unusual in it: TRL's loss does not know. It hands the model rows `i` and `i + B`, the answers to one prompt,
and gets back the fields of TRL's `FusedCausalLMOutput` for these rows. In between they are one row, see `packing.py`,
and the LM head sees only the hidden states that predict something.
"""

import functools
import types
from dataclasses import replace

from .packing import pack_pairs
from .prefix_attention import MASKS, SHARED_SDPA


# Plain causal attention and one-dimensional positions; the image is a run of tokens in the prompt
MODELS = ("llava", "llava_next", "vipllava")
PER_TOKEN_FIELDS = ("log_probs", "entropy", "log_sum_sq_probs", "mean_logits", "is_top1")


def why_not(model):
    """Reason (`str`) why prefixes cannot be shared for a model, or `None`."""
    text_config = model.config.get_text_config()
    attention = text_config._attn_implementation
    if model.config.model_type not in MODELS:
        return f"it is not supported for `{model.config.model_type}` models (supported: {', '.join(MODELS)})"
    if attention not in MASKS:
        return f"it needs an attention that takes a mask ({', '.join(MASKS)}), and this model uses {attention}"
    if getattr(text_config, "sliding_window", None) is not None:
        return f"the model attends to a sliding window of {text_config.sliding_window} tokens"
    if any(config.is_prompt_learning for config in getattr(model, "peft_config", {}).values()):
        return "prompt-learning adapters put tokens of their own in front"
    if hasattr(text_config, "output_router_logits"):
        return "mixture-of-experts models balance their load over TRL's layout"
    return None


def share_prefixes(model, num_branches=2):
    """
    Let a model with TRL's fused LM head compute each prompt once. Images are then expected once per prompt.

    Only calls with `fused_lm_head=True` change; `generate` and the plain forward are as they were.

    Args:
        model ([`~transformers.PreTrainedModel`]): model that `trl.trainer.utils.add_fused_lm_head` was applied to.
        num_branches (`int`, *optional*, defaults to `2`): answers per prompt.
    """
    fused_forward = model.forward
    text_config = model.config.get_text_config()
    if text_config._attn_implementation == "sdpa":
        text_config._attn_implementation = SHARED_SDPA
    pad_token_id = text_config.pad_token_id or 0

    @functools.wraps(type(model).forward)
    def forward(self, *args, fused_lm_head=False, labels=None, **kwargs):
        if not fused_lm_head:
            if labels is not None:
                kwargs["labels"] = labels
            return fused_forward(*args, **kwargs)
        pairs = pack_pairs(kwargs.pop("input_ids"), labels, num_branches, pad_token_id)
        kwargs["attention_mask"] = MASKS[text_config._attn_implementation](pairs, self.dtype)

        def keep_predicting(backbone, args, outputs):
            outputs.last_hidden_state = outputs.last_hidden_state[pairs.predicting][None]  # (1, num_predicted, H)
            return outputs

        # Looked up on each call, as TRL does: FSDP replaces it
        hook = self.base_model.register_forward_hook(keep_predicting)
        try:
            outputs = fused_forward(
                *args,
                input_ids=pairs.input_ids,
                position_ids=pairs.position_ids,
                shift_labels=pairs.predicted[None],
                fused_lm_head=True,
                **kwargs,
            )
        finally:
            hook.remove()
        fields = {name: getattr(outputs, name) for name in PER_TOKEN_FIELDS}
        unpacked = {name: None if value is None else pairs.unpack(value[0]) for name, value in fields.items()}
        return replace(outputs, **unpacked, label_mask=labels[:, 1:] != -100)

    model.forward = types.MethodType(forward, model)
