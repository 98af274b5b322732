"""Every process encodes an image in every step: one of weight zero where its batch has none.

ZeRO-3 and FSDP keep a part of each weight on every process and put it together when its module is entered, so a
process whose rows are all text would leave the others waiting in the vision part. DeepSpeed's other stages average
the gradients that each process happens to have, which must be of the same weights everywhere. DDP needs none of this:
TRL lets it look for weights without a gradient.
"""

import inspect
import logging
from functools import partial

import torch
from PIL import Image

from ...tokens.families import LANGUAGE_MODEL
from .image_features import vision_part


logger = logging.getLogger(__name__)

SIDE = 64  # pixels: processors scale it to the smallest size they know, and some refuse less than a patch


class DummyImage:
    """
    A small black image for batches without images.

    Args:
        models (`list` of [`~transformers.PreTrainedModel`]): policy and, if there is one, reference.
        processor ([`~transformers.ProcessorMixin`]): their processor.
        sharded (`bool`): whether weights are spread over processes, so that every forward needs an image; else only
            those of training a vision part do.
    """

    def __init__(self, models, processor, sharded):
        self.policy, self.sharded, self.image = models[0], sharded, None
        self.waiting = None  # image of the forward pass in progress
        backbone = self.policy.base_model
        if _language_model(backbone) is None or not hasattr(backbone, "get_image_features"):
            logger.warning(
                f"Batches without images may stop several processes of a `{self.policy.config.model_type}` model for "
                "ever. Leave out rows without images."
            )
            return
        image = processor.image_processor(images=[Image.new("RGB", (SIDE, SIDE))], return_tensors="pt")
        known = inspect.signature(backbone.get_image_features).parameters
        self.image = {name: value for name, value in image.items() if name in known}
        for model in models:
            backbone = model.base_model
            backbone.register_forward_pre_hook(self._take, with_kwargs=True)
            # Before ZeRO-3's own hook, which expects every process to enter modules in the same order
            _language_model(backbone).register_forward_pre_hook(
                partial(self._encode_beside, backbone), prepend=True, with_kwargs=True
            )

    def added_to(self, batch):
        """The batch, with `dummy_image` if it has to have one; so has each of `pairs`."""
        if "pairs" in batch:
            return {**batch, "pairs": [self.added_to(pair) for pair in batch["pairs"]]}
        if self.image is None or "pixel_values" in batch or not self._is_needed():
            return batch
        return {**batch, "dummy_image": self.image}

    @torch.no_grad()
    def encode(self, device):
        """Let the policy encode the image, its weights being whole, on a device (`torch.device`)."""
        if self.image is not None:
            image = {name: value.to(device) for name, value in self.image.items()}
            self.policy.base_model.get_image_features(**image, return_dict=True)

    def _is_needed(self):
        if self.sharded:
            return True
        part = vision_part(self.policy.base_model).values()
        return self.policy.training and any(parameter.requires_grad for parameter in part)

    def _take(self, backbone, args, kwargs):
        self.waiting = kwargs.pop("dummy_image", None)
        return args, kwargs

    def _encode_beside(self, backbone, language_model, args, kwargs):
        """Encode the image where images are encoded: outputs stay as they are, what encodes gets gradients of zero."""
        image, self.waiting = self.waiting, None
        if image is None:
            return None
        features = backbone.get_image_features(**image, return_dict=True)
        # What the language model reads. Other outputs come from weights that no image gives a gradient
        read = [features.pooler_output, getattr(features, "deepstack_features", None)]
        nothing = sum((tensor * 0).sum() for tensor in _tensors(read))
        embeds = kwargs["inputs_embeds"]
        return args, {**kwargs, "inputs_embeds": embeds + nothing.to(embeds.device, embeds.dtype)}


def _language_model(backbone):
    return next((getattr(backbone, name) for name in LANGUAGE_MODEL if hasattr(backbone, name)), None)


def _tensors(value):
    if torch.is_tensor(value):
        return [value]
    return [tensor for part in value or () for tensor in _tensors(part)]
