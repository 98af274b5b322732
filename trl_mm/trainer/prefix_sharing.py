"""The prompt is computed once: both answers to it become branches of one sequence, under the model.

What is unusual in it: TRL's loss does not know. It hands the model rows `i` and `i + B`, the answers to one prompt,
and gets back the fields of TRL's `FusedCausalLMOutput` for these rows. In between, each pair is laid out as

```
tokens      [ prompt without its last token ][ last, chosen[:-1] ][ last, rejected[:-1] ]
position    0 … P-2                          P-1 …                P-1 …
branch      0                                1                    2
predicts    –                                chosen               rejected
```

and a token attends to earlier tokens of the prompt and of its own branch. Each branch begins with its own copy of the
prompt's last token, so that no hidden state has to predict two different tokens.
"""

import functools
import types
from dataclasses import dataclass, replace

import torch


# Plain causal attention and one-dimensional positions; the image is a run of tokens in the prompt
MODELS = ("llava", "llava_next", "vipllava")
ATTENTION = ("sdpa", "eager")
PER_TOKEN_FIELDS = ("log_probs", "entropy", "log_sum_sq_probs", "mean_logits", "is_top1")


def why_not(model):
    """Reason (`str`) why prefixes cannot be shared for a model, or `None`."""
    attention = model.config.get_text_config()._attn_implementation
    if model.config.model_type not in MODELS:
        return f"it is not supported for `{model.config.model_type}` models (supported: {', '.join(MODELS)})"
    if attention not in ATTENTION:
        return f"it needs an attention that takes a mask ({' or '.join(ATTENTION)}), and this model uses {attention}"
    if any(config.is_prompt_learning for config in getattr(model, "peft_config", {}).values()):
        return "prompt-learning adapters put tokens of their own in front"
    if hasattr(model.config.get_text_config(), "output_router_logits"):
        return "mixture-of-experts models balance their load over TRL's layout"
    return None


@dataclass
class PackedPairs:
    """
    Pairs laid out with one prompt each.

    Attributes:
        input_ids (`torch.LongTensor` of shape `(batch_size, packed_length)`): tokens.
        position_ids (`torch.LongTensor` of shape `(batch_size, packed_length)`): positions, `P - 1` again at the
            beginning of each branch.
        branch (`torch.LongTensor` of shape `(batch_size, packed_length)`): 0 for the prompt, 1 to K for the answers,
            -1 for padding.
        shift_labels (`torch.LongTensor` of shape `(batch_size, packed_length)`): what each token predicts, or -100.
        source (`torch.LongTensor` of shape `(K * batch_size, length - 1)`): for each place of TRL's output the place
            in the packed one, as an index into `batch_size * packed_length`; -1 where nothing is predicted.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    branch: torch.Tensor
    shift_labels: torch.Tensor
    source: torch.Tensor

    def attention_mask(self, dtype=None):
        """
        Which token attends to which, of shape `(batch_size, 1, packed_length, packed_length)`.

        Args:
            dtype (`torch.dtype`, *optional*): floating type of an additive mask; without it the mask is boolean.
        """
        query, key = self.branch[:, :, None], self.branch[:, None, :]
        length = self.branch.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool, device=self.branch.device).tril()
        allowed = causal & ((key == 0) | (key == query))  # padding sees padding: a row of nothing would be NaN
        allowed = allowed[:, None]
        if dtype is None:
            return allowed
        return torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill(
            ~allowed, torch.finfo(dtype).min
        )

    def unpack(self, values):
        """Values of shape `(batch_size, packed_length)` in TRL's layout, `(K * batch_size, length - 1)`."""
        found = values.reshape(-1)[self.source.clamp(min=0)]
        return found.masked_fill(self.source < 0, 0)


def pack_pairs(input_ids, labels, num_branches=2, pad_token_id=0):
    """
    Lay out answers to the same prompt as branches of one sequence.

    Args:
        input_ids (`torch.LongTensor` of shape `(K * batch_size, length)`): rows `i`, `i + batch_size`, ... begin with
            the same prompt; padded on the right.
        labels (`torch.LongTensor` of the same shape): token ids of the answers, -100 elsewhere.
        num_branches (`int`, *optional*, defaults to `2`): K, answers per prompt.
        pad_token_id (`int`, *optional*, defaults to `0`): what fills up shorter sequences.

    Returns:
        [`PackedPairs`]
    """
    batch_size = len(input_ids) // num_branches
    is_answer = labels != -100
    answer_lengths = is_answer.sum(1).view(num_branches, batch_size)  # (K, B)
    # The prompts are those of the first answers; an answer that was cut away entirely has no beginning of its own
    starts = torch.where(is_answer.any(1), is_answer.int().argmax(1), 0).view(num_branches, batch_size)
    prompt_lengths = starts.max(0).values  # (B,)
    packed_length = int(((prompt_lengths - 1).clamp(min=0) + answer_lengths.sum(0)).max())

    device = input_ids.device
    packed = {
        "input_ids": torch.full((batch_size, packed_length), pad_token_id, dtype=torch.long, device=device),
        "position_ids": torch.zeros(batch_size, packed_length, dtype=torch.long, device=device),
        "branch": torch.full((batch_size, packed_length), -1, dtype=torch.long, device=device),
        "shift_labels": torch.full((batch_size, packed_length), -100, dtype=torch.long, device=device),
    }
    source = torch.full((len(input_ids), input_ids.shape[1] - 1), -1, dtype=torch.long, device=device)
    for row, prompt in enumerate(prompt_lengths.tolist()):
        end = max(prompt - 1, 0)
        packed["input_ids"][row, :end] = input_ids[row, :end]
        packed["position_ids"][row, :end] = torch.arange(end, device=device)
        packed["branch"][row, :end] = 0
        for number, answer in enumerate(answer_lengths[:, row].tolist()):
            given, place = input_ids[number * batch_size + row], slice(end, end + answer)
            packed["input_ids"][row, place] = given[prompt - 1 : prompt - 1 + answer]
            packed["position_ids"][row, place] = torch.arange(prompt - 1, prompt - 1 + answer, device=device)
            packed["branch"][row, place] = number + 1
            packed["shift_labels"][row, place] = given[prompt : prompt + answer]
            source[number * batch_size + row, prompt - 1 : prompt - 1 + answer] = (
                torch.arange(end, end + answer, device=device) + row * packed_length
            )
            end += answer
    return PackedPairs(**packed, source=source)


def share_prefixes(model, num_branches=2):
    """
    Let a model with TRL's fused LM head compute each prompt once. Images are then expected once per pair.

    Only calls with `fused_lm_head=True` change; `generate` and the plain forward are as they were.

    Args:
        model ([`~transformers.PreTrainedModel`]): model that `trl.trainer.utils.add_fused_lm_head` was applied to.
        num_branches (`int`, *optional*, defaults to `2`): answers per prompt.
    """
    fused_forward = model.forward
    pad_token_id = model.config.get_text_config().pad_token_id or 0

    @functools.wraps(type(model).forward)
    def forward(self, *args, fused_lm_head=False, labels=None, **kwargs):
        if not fused_lm_head:
            if labels is not None:
                kwargs["labels"] = labels
            return fused_forward(*args, **kwargs)
        pairs = pack_pairs(kwargs.pop("input_ids"), labels, num_branches, pad_token_id)
        eager = self.config.get_text_config()._attn_implementation == "eager"
        kwargs["attention_mask"] = pairs.attention_mask(self.dtype if eager else None)
        outputs = fused_forward(
            *args,
            input_ids=pairs.input_ids,
            position_ids=pairs.position_ids,
            shift_labels=pairs.shift_labels,
            fused_lm_head=True,
            **kwargs,
        )
        fields = {name: getattr(outputs, name) for name in PER_TOKEN_FIELDS}
        unpacked = {name: None if value is None else pairs.unpack(value) for name, value in fields.items()}
        return replace(outputs, **unpacked, label_mask=pairs.source >= 0)

    model.forward = types.MethodType(forward, model)
