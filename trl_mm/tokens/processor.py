"""The processor of a model, by the model's name, and what it returns."""

import json
import logging
from pathlib import Path
from typing import Any

import torch
from transformers import AutoProcessor, PreTrainedConfig, ProcessorMixin

from .chat_template import check_chat_template
from .image_tokens import check_processor


logger = logging.getLogger(__name__)

# What it returns with a value for each token; all else is of images
TOKEN_INPUTS = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")


def processor_of(model: str, **options: Any) -> Any:
    """
    Load the processor of a model; for the folder of an adapter without one, that of its base.

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
    except (ValueError, OSError):
        base = base_of_adapter(model)
        if base is None:
            raise
        logger.info("The adapter in %s has no processor; that of its base, %s, is used.", model, base)
        return processor_of(base, trust_remote_code=options.get("trust_remote_code", False))
    except ImportError as error:
        if "torchvision" not in str(error).lower():
            raise
        raise ImportError(
            f"The processor of {model} needs torchvision, which is not installed. Install the version that belongs to "
            f"torch {torch.__version__}, from where torch came from: `pip install trl-mm[torchvision]`."
        ) from error


def base_of_adapter(model: str) -> str | None:
    """Id or path of the base of the adapter in a folder; `None` if it holds none, or a whole model."""
    try:
        config = json.loads((Path(model) / "adapter_config.json").read_text(encoding="utf-8"))
        return None if (Path(model) / "config.json").exists() else config["base_model_name_or_path"]
    except (OSError, ValueError, LookupError, TypeError):
        return None


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
