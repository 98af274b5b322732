"""The processor of a model, by the model's name, and what it returns."""

import torch
from transformers import AutoProcessor


# What it returns with a value for each token; all else is of images
TOKEN_INPUTS = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")


def processor_of(model, **options):
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
