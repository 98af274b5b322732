"""How many tokens images take, from their sizes alone."""

from collections.abc import Sequence
from typing import Any

import PIL.Image
from transformers import PreTrainedConfig

from .families import family_of


# What processors raise for an image that they cannot cut into tiles or patches
UNFIT = (ValueError, ArithmeticError, RuntimeError, IndexError)


def unfit_sizes(sizes: Sequence[tuple[int, int]], error: Exception) -> str:
    """Message about images of these sizes, `(height, width)` each, that a processor does not take (`str`)."""
    said = ", ".join(f"{width} x {height}" for height, width in sizes[:4])
    return (
        f"images of {said} pixels cannot be processed for this model ({error}). Crop, pad or resize them, or remove "
        "the row."
    )


def check_processor(processor: Any, config: PreTrainedConfig | None = None) -> None:
    """
    Refuse a processor that cannot count image tokens, or counts them otherwise than the model makes them.

    Args:
        processor ([`~transformers.ProcessorMixin`]): processor of the model.
        config ([`~transformers.PreTrainedConfig`], *optional*): configuration of the model; compared if
            the processor of its family repeats settings.

    Raises:
        ValueError: a setting of the processor is missing, or differs from the model's.
    """
    if getattr(processor, "patch_size", 0) is None:
        raise ValueError(
            "The processor has no `patch_size`, as in LLaVA checkpoints from before 2025, so it cannot count image "
            "tokens. Write `patch_size` and `vision_feature_select_strategy` of the model's config.json into "
            "processor_config.json beside it, or set them on the processor."
        )
    vision = getattr(config, "vision_config", None)
    if config is None or vision is None or not family_of(config).repeats_settings:
        return
    strategy = getattr(config, "vision_feature_select_strategy", None)  # VipLLaVA has none and drops the first feature
    others = {"clip_vision_model": 1, "siglip_vision_model": 0}  # beside those of patches
    wanted = {
        "patch_size": vision.patch_size,
        "vision_feature_select_strategy": strategy,
        "num_additional_image_tokens": others.get(vision.model_type),
        "image_grid_pinpoints": getattr(config, "image_grid_pinpoints", None),
    }
    for name, value in wanted.items():
        owner = processor.image_processor if name == "image_grid_pinpoints" else processor
        found = getattr(owner, name, None)
        if value is not None and found is not None and _plain(found) != _plain(value):
            raise ValueError(
                f"`{name}` of the processor is {_plain(found)}, but the model makes image tokens for {_plain(value)}. "
                "Use the processor that belongs to the model, or correct its processor_config.json."
            )


def _plain(value):
    return [list(item) for item in value] if isinstance(value, list | tuple) else value


class ImageTokenCounter:
    """
    Tokens that the images of a row take, with all that the processor writes around and between them.

    Processors count from sizes alone, but not all of them count right: those of transformers 5.23 forget for Gemma 3
    what frames an image, and for LLaVA-OneVision that several images in a row get no tiles. A processor is believed
    for rows of so many images if it is right once; otherwise it is given blank images of each size.

    Args:
        processor ([`~transformers.ProcessorMixin`]): processor of the model.

    Returns, when called with the sizes of a row's images (`tuple` of `(height, width)`, in pixels), a number (`int`).
    """

    def __init__(self, processor: Any):
        self.processor = processor
        self.believed: dict[int, bool] = {}
        self.counts: dict[tuple[tuple[int, int], ...], int] = {}

    def __call__(self, sizes: tuple[tuple[int, int], ...]) -> int:
        if sizes and sizes not in self.counts:
            if len(sizes) not in self.believed:
                example = ((480, 640),) * len(sizes)
                self.believed[len(sizes)] = self._stated(example) == self._processed(example)
            self.counts[sizes] = self._stated(sizes) if self.believed[len(sizes)] else self._processed(sizes)
        return self.counts[sizes] if sizes else 0

    def _stated(self, sizes):
        return sum(self.processor._get_num_multimodal_tokens(image_sizes=sizes)["num_image_tokens"])

    def _processed(self, sizes):
        images = [PIL.Image.new("RGB", (width, height)) for height, width in sizes]
        text = self.processor.image_token * len(sizes)
        inputs = self.processor(text=[text], images=[images], add_special_tokens=False, return_tensors="pt")
        return inputs["input_ids"].shape[1]
