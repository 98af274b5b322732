"""Whether a model looks at images: one that does not takes the image tokens for words, without a word."""

import inspect
from typing import Any


def check_sees_images(model: Any, name: str = "model") -> None:
    """
    Refuse a model whose forward has no place for pixels.

    Args:
        model ([`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]): the model, not wrapped otherwise.
        name (`str`, *optional*, defaults to `"model"`): what the message calls it.

    Raises:
        ValueError: it has none.
    """
    bare = model.get_base_model() if hasattr(model, "peft_config") and hasattr(model, "get_base_model") else model
    # Of the class: trainers put a forward of their own on the object
    if "pixel_values" not in inspect.signature(type(bare).forward).parameters:
        raise ValueError(
            f"`{name}` ({type(bare).__name__}) takes no images, so it is no vision-language model, whatever its "
            "processor is. Pass one such as llava-hf/llava-v1.6-vicuna-7b-hf; text-only models train with TRL's own "
            "trainer."
        )
