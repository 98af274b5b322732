"""
Reward models of all families: the backbone of a vision-language model with transformers' sequence-classification head.

What is unusual in it: transformers has the head (`GenericForSequenceClassification`) but no such class for most
vision-language models, so they are put together here, and importing this module makes
`AutoModelForSequenceClassification` know them. The weights of a generation checkpoint fit as they are; its LM head is
left out, and `score.weight` begins at random.
"""

from typing import Any

import torch
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    Gemma3Config,
    Gemma3PreTrainedModel,
    Idefics3Config,
    Idefics3PreTrainedModel,
    InternVLConfig,
    InternVLPreTrainedModel,
    LlavaConfig,
    LlavaNextConfig,
    LlavaNextPreTrainedModel,
    LlavaOnevisionConfig,
    LlavaOnevisionPreTrainedModel,
    LlavaPreTrainedModel,
    PreTrainedConfig,
    Qwen2_5_VLConfig,
    Qwen2_5_VLPreTrainedModel,
    Qwen2VLConfig,
    Qwen2VLPreTrainedModel,
    Qwen3VLConfig,
    Qwen3VLPreTrainedModel,
    SmolVLMConfig,
    SmolVLMPreTrainedModel,
    VipLlavaConfig,
    VipLlavaPreTrainedModel,
)
from transformers.conversion_mapping import (
    get_checkpoint_conversion_mapping,
    register_checkpoint_conversion_mapping,
)
from transformers.modeling_layers import GenericForSequenceClassification
from transformers.modeling_outputs import SequenceClassifierOutputWithPast


class ScoreHead(GenericForSequenceClassification):
    """
    The only change w.r.t. `GenericForSequenceClassification` is that the score is read at the last token that is not
    masked: where padding and EOS are one token, the last one that is no padding stands before the EOS.
    """

    _keys_to_ignore_on_load_unexpected = [r"(^|\.)lm_head\."]  # of the generation checkpoint

    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutputWithPast:
        """
        Args:
            input_ids (`torch.LongTensor` of shape `(batch_size, length)`): padded on either side.
            attention_mask (`torch.Tensor` of the same shape, *optional*): 0 for padding; without it there is none.
            pixel_values (`torch.Tensor`, *optional*): images.
            **kwargs: what else the backbone takes.

        Returns:
            `SequenceClassifierOutputWithPast`: `logits` of shape `(batch_size, num_labels)`.
        """
        if pixel_values is not None:
            kwargs["pixel_values"] = pixel_values
        for name in ("return_dict", "margin"):  # TRL hands its loss's margin to the model, too
            kwargs.pop(name, None)
        outputs = self.model(input_ids, attention_mask=attention_mask, **kwargs)
        hidden = outputs.last_hidden_state  # (B, L, H)
        last = hidden.shape[1] - 1
        if attention_mask is not None:
            last = hidden.shape[1] - 1 - attention_mask.flip(1).argmax(1)  # (B,)
        rows = torch.arange(len(hidden), device=hidden.device)
        return SequenceClassifierOutputWithPast(logits=self.score(hidden[rows, last]))


class LlavaForSequenceClassification(ScoreHead, LlavaPreTrainedModel):
    pass


class LlavaNextForSequenceClassification(ScoreHead, LlavaNextPreTrainedModel):
    pass


class VipLlavaForSequenceClassification(ScoreHead, VipLlavaPreTrainedModel):
    pass


class LlavaOnevisionForSequenceClassification(ScoreHead, LlavaOnevisionPreTrainedModel):
    pass


class InternVLForSequenceClassification(ScoreHead, InternVLPreTrainedModel):
    pass


class Idefics3ForSequenceClassification(ScoreHead, Idefics3PreTrainedModel):
    pass


class SmolVLMForSequenceClassification(ScoreHead, SmolVLMPreTrainedModel):
    pass


class Qwen2VLForSequenceClassification(ScoreHead, Qwen2VLPreTrainedModel):
    pass


class Qwen2_5_VLForSequenceClassification(ScoreHead, Qwen2_5_VLPreTrainedModel):
    pass


class Qwen3VLForSequenceClassification(ScoreHead, Qwen3VLPreTrainedModel):
    pass


class Gemma3ForSequenceClassification(ScoreHead, Gemma3PreTrainedModel):  # in place of that of transformers
    pass


REWARD_MODELS: dict[type[PreTrainedConfig], type[nn.Module]] = {
    LlavaConfig: LlavaForSequenceClassification,
    LlavaNextConfig: LlavaNextForSequenceClassification,
    VipLlavaConfig: VipLlavaForSequenceClassification,
    LlavaOnevisionConfig: LlavaOnevisionForSequenceClassification,
    InternVLConfig: InternVLForSequenceClassification,
    Idefics3Config: Idefics3ForSequenceClassification,
    SmolVLMConfig: SmolVLMForSequenceClassification,
    Qwen2VLConfig: Qwen2VLForSequenceClassification,
    Qwen2_5_VLConfig: Qwen2_5_VLForSequenceClassification,
    Qwen3VLConfig: Qwen3VLForSequenceClassification,
    Gemma3Config: Gemma3ForSequenceClassification,
}
for config_class, model_class in REWARD_MODELS.items():
    # Names of weights in a file are translated by class; where the class of generation has a table, this one shares it
    generation = model_class.__name__.replace("SequenceClassification", "ConditionalGeneration")
    if (names := get_checkpoint_conversion_mapping(generation)) is not None:
        register_checkpoint_conversion_mapping(model_class.__name__, names, overwrite=True)
    # Without `exist_ok`, transformers passes over a config class of its own without a word
    AutoModelForSequenceClassification.register(config_class, model_class, exist_ok=True)
