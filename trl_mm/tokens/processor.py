"""The processor of a model, by the model's name, and what it returns."""

from typing import Any

import torch
from transformers import AutoProcessor, PreTrainedConfig, ProcessorMixin

from .chat_template import check_chat_template
from .image_tokens import check_processor


# What it returns with a value for each token; all else is of images
TOKEN_INPUTS = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")


def processor_of(model: str, **options: Any) -> Any:
    """
    Load the processor of a model.

    Args:
        model (`str`): id or path of the model.
        options: further arguments of `AutoProcessor.from_pretrained`, such as `revision` and `trust_remote_code`.

    Returns:
        `ProcessorMixin`: the processor; a tokenizer if the model takes text only.

    Raises:
        ImportError: it needs torchvision, as that of Qwen2.5-VL does for videos.
    """
    try:
        return AutoProcessor.from_pretrained(model, **options)
    except ImportError as error:
        if "torchvision" not in str(error).lower():
            raise
        raise ImportError(
            f"The processor of {model} needs torchvision, which is not installed. Install the version that belongs to "
            f"torch {torch.__version__}, from where torch came from: `pip install trl-mm[torchvision]`."
        ) from error


def vision_processor_of(
    model: str, owner: str, processor: Any = None, config: PreTrainedConfig | None = None, **options: Any
) -> ProcessorMixin:
    """
    The processor of a vision-language model, which renders messages and counts image tokens as the model makes them.

    Args:
        model (`str`): id or path of the model.
        owner (`str`): what asks for the model, such as the name of a setting, for messages.
        processor ([`~transformers.ProcessorMixin`], *optional*): the processor. Loaded if it is not given.
        config ([`~transformers.PreTrainedConfig`], *optional*): configuration of the model, to compare with.
        options: further arguments of `AutoProcessor.from_pretrained`, such as `revision` and `trust_remote_code`.

    Raises:
        ValueError: the model is no vision-language model, or its processor has no chat template or cannot count image
            tokens.
        ImportError: it needs torchvision.
    """
    processor = processor_of(model, **options) if processor is None else processor
    if not isinstance(processor, ProcessorMixin):
        raise ValueError(
            f"{owner} ({model}) has no image processor, so it is no vision-language model. Pass one such as "
            "llava-hf/llava-v1.6-vicuna-7b-hf; text-only models train with TRL's own trainer."
        )
    check_chat_template(processor, model)
    check_processor(processor, config)
    return processor
