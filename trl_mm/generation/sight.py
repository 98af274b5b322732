"""Whether a model looks at images, one for each run of image tokens: one that takes none reads the tokens as words."""

import inspect
from typing import Any

import PIL.Image
import torch

from ..tokens.families import LANGUAGE_MODEL, UNKNOWN, family_of


SIZE = (320, 240)  # width and height in pixels of the image that is tried: processors cut it into tiles


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


class _Reached(Exception):
    """The language model is reached: images have become as many embeddings as there are image tokens."""


def check_image_features(model: Any, processor: Any) -> None:
    """
    Refuse a processor that writes another number of image tokens than the model has features for, by one image that
    goes as far as the language model. A model that is spread over processes, or not yet where it runs, as under
    DeepSpeed, is left to transformers in the first step. Families whose processors repeat settings are compared
    before they are loaded ([`check_processor`]).

    Args:
        model ([`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]): the model, not wrapped otherwise.
        processor ([`~transformers.ProcessorMixin`]): its processor.

    Raises:
        ValueError: the numbers differ.
    """
    bare = model.get_base_model() if hasattr(model, "peft_config") and hasattr(model, "get_base_model") else model
    backbone, device = bare.base_model, bare.device
    language = next((getattr(backbone, name) for name in LANGUAGE_MODEL if hasattr(backbone, name)), None)
    elsewhere = any(weight.is_meta or hasattr(weight, "ds_id") for weight in bare.parameters())
    waits = device.type == "cpu" and torch.accelerator.is_available()
    if language is None or elsewhere or waits or family_of(bare.config).repeats_settings:
        return
    image = PIL.Image.new("RGB", SIZE)
    inputs = processor(text=[processor.image_token], images=[[image]], return_tensors="pt").to(device)
    reads = inspect.signature(backbone.forward).parameters
    hook = language.register_forward_pre_hook(_reached)
    # Only shapes count: weights may be of several types until training settles them, and no number is drawn from what
    # training draws from
    dtype = bare.dtype if bare.dtype in (torch.bfloat16, torch.float16) else torch.bfloat16
    with torch.random.fork_rng([] if device.type == "cpu" else None, device_type=device.type):
        try:
            with torch.no_grad(), torch.autocast(device.type, dtype=dtype):
                backbone(**{name: value for name, value in inputs.items() if name in reads})
        except _Reached:
            pass
        except torch.OutOfMemoryError:
            raise
        except (ValueError, RuntimeError) as error:
            if "do not match" not in str(error) and family_of(bare.config) is UNKNOWN:
                return  # which may want more than an image; the first step tells
            raise ValueError(
                f"The processor and the model do not agree on an image of {SIZE[0]} x {SIZE[1]} pixels: {error}. Use "
                "the processor that belongs to the model, or correct the settings of its preprocessor_config.json and "
                "processor_config.json (`patch_size`, `merge_size`, `image_seq_length`)."
            ) from error
        finally:
            hook.remove()


def _reached(*inputs):
    raise _Reached
