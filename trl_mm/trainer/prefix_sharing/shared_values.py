"""Values of tokens beside their log-probabilities, from one call of the model that trains.

What is unusual in it: the value model hangs on the policy, so that one forward of the policy returns both. DDP and
DeepSpeed prepare for one backward pass after each forward, and would take two models for two.
"""

import functools
import types
from dataclasses import dataclass, fields
from typing import Any

import torch
from trl.trainer.utils import FusedCausalLMOutput

from ...tokens.families import family_of
from ...tokens.processor import TOKEN_INPUTS
from .attention import SHARED_SDPA
from .packing import pack_pairs
from .shared_forward import INPUTS


OF_THE_POLICY = ("fused_lm_head", "labels", "num_branches")


@dataclass
class ValuedOutput(FusedCausalLMOutput):
    """
    The only change w.r.t. TRL's `FusedCausalLMOutput` is one more field. It is not called `values`: DDP calls
    this method of a mapping.

    Attributes:
        token_values (`torch.FloatTensor` of shape `(K * batch_size, length - 1)`): value of the state in which each
            token of the answers was chosen, in the places of `log_probs`; 0 elsewhere.
    """

    token_values: torch.Tensor | None = None


def add_values(model: Any, value_model: Any, shares: bool) -> None:
    """
    Let a policy return values of tokens, too: calls take `with_values`. Others are as they were.

    Args:
        model ([`~transformers.PreTrainedModel`]): policy with TRL's fused LM head, in whatever layout it reads.
        value_model ([`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]): what [`token_values`] takes.
        shares (`bool`): whether the policy computes each prompt once for its `num_branches` answers.
    """
    own_forward = model.forward
    if shares:
        share_values(value_model)

    @functools.wraps(type(model).forward)
    def forward(self, *args, with_values=False, **kwargs):
        if not with_values:
            return own_forward(*args, **kwargs)
        inputs = {name: value for name, value in kwargs.items() if name not in OF_THE_POLICY}
        num_branches = kwargs.get("num_branches", 2) if shares else None
        values = token_values(value_model, kwargs["labels"], num_branches, **inputs)
        outputs = own_forward(*args, **kwargs)
        return ValuedOutput(
            **{field.name: getattr(outputs, field.name) for field in fields(outputs)}, token_values=values
        )

    model.forward = types.MethodType(forward, model)


def share_values(model: Any) -> None:
    """Let a value model attend as [`token_values`] with `num_branches` needs it; other calls are as they were."""
    text_config = model.config.get_text_config()
    if text_config._attn_implementation == "sdpa":
        text_config._attn_implementation = SHARED_SDPA


def token_values(
    model: Any, labels: torch.Tensor, num_branches: int | None = None, **inputs: torch.Tensor
) -> torch.Tensor:
    """
    Values of the states in which tokens were chosen: the score of a reward model's kind, read in front of each.

    Args:
        model ([`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]): backbone with a `score` of one label.
        labels (`torch.LongTensor` of shape `(K * batch_size, length)`): token ids in the places of the answers, -100
            elsewhere.
        num_branches (`int`, *optional*): K, the answers per prompt, whose prompt and images are computed once, after
            [`share_values`]; the rows are as in [`share_prefixes`]. Without it each row is computed whole.
        **inputs: what the backbone reads, `input_ids` among it.

    Returns:
        `torch.FloatTensor` of shape `(K * batch_size, length - 1)`: 0 outside of the answers.
    """
    bare = model.get_base_model() if hasattr(model, "get_base_model") else model
    if num_branches is None:
        is_token = labels[:, 1:] != -100
        hidden = bare.base_model(**inputs, use_cache=False).last_hidden_state[:, :-1]
        values = _scores(bare.score, hidden[is_token])
        return values.new_zeros(is_token.shape).masked_scatter(is_token, values)
    rows = {name: inputs.pop(name) for name in TOKEN_INPUTS if name in inputs}
    pairs = pack_pairs(rows["input_ids"], labels, num_branches, bare.config.get_text_config().pad_token_id or 0)
    build_inputs = INPUTS[family_of(bare.config).prefix_inputs or "causal"]
    layout = build_inputs(bare, pairs, {**rows, **inputs})
    outputs = bare.base_model(input_ids=pairs.input_ids, **{**inputs, **layout}, use_cache=False)
    return pairs.unpack(_scores(bare.score, outputs.last_hidden_state[pairs.predicting]))


def _scores(score: torch.nn.Module, hidden: torch.Tensor) -> torch.Tensor:
    """Scores of states, `(N, H)` to `(N,)`, in float32: half precision keeps three digits of them."""
    with torch.autocast(hidden.device.type, enabled=False):
        return score(hidden.to(next(score.parameters()).dtype))[:, 0].float()
