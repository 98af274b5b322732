"""Policy and reference look at the same images: a frozen vision part encodes them once for both."""

import torch
from torch.distributed.tensor import DTensor

from ...tokens.families import LANGUAGE_MODEL


OF_THE_TOWER = ("last_hidden_state", "hidden_states", "attentions")
IMAGES = ("pixel_values", "dummy_image")
UNDER_ADAPTERS = {"base_layer", "original_module"}  # PEFT's names for weights that it puts something else around


def vision_part(backbone):
    """Parameters (`dict[str, torch.nn.Parameter]`) of all that comes before the language model."""
    language = tuple(f"{name}." for name in LANGUAGE_MODEL)
    return {name: p for name, p in backbone.named_parameters() if not name.startswith(language)}


def same_vision_part(backbone, other=None):
    """
    Whether two models encode images alike, as far as weights can be seen here (not with ZeRO-3 and FSDP).

    Args:
        backbone ([`~transformers.PreTrainedModel`]): policy without its LM head.
        other ([`~transformers.PreTrainedModel`], *optional*): the same of the reference; `None` if it is the policy
            itself without its adapters.

    Returns:
        `bool`
    """
    ours = vision_part(backbone)
    if other is None:
        return not any(UNDER_ADAPTERS & set(name.split(".")) for name in ours)
    theirs = vision_part(other)
    return ours.keys() == theirs.keys() and all(
        not _is_spread(ours[name])
        and not _is_spread(theirs[name])
        and torch.equal(ours[name].to(theirs[name]), theirs[name])
        for name in ours
    )


def _is_spread(weight):
    return hasattr(weight, "ds_id") or isinstance(weight, DTensor)


class SharedFeatures:
    """
    Image features of the model that reads a batch first, for the one that reads it next, as long as nothing that
    encodes is trained.

    A batch is known by the tensor of its token ids: pixels are copied on their way where a wrapper casts them. One
    without images is known too, so that all processes enter the vision part equally often.

    Args:
        policy ([`~transformers.PreTrainedModel`]): policy without its LM head.
    """

    def __init__(self, policy):
        self.encoders = list(vision_part(policy).values())
        self.input_ids = self.features = None

    def keep(self, input_ids, features):
        """Keep the features of a batch (`ModelOutput`; `None` if it has no images), unless what encodes is trained."""
        if any(parameter.requires_grad for parameter in self.encoders):
            return
        if features is not None:
            # Without the hidden states of the tower, which are as large as the rest of the batch
            small = {name: value for name, value in features.items() if name not in OF_THE_TOWER}
            features = type(features)(**small)
        self.input_ids, self.features = input_ids, features

    def take(self, input_ids, inputs):
        """The inputs (`dict`) of a model, with the features in place of the images if this batch has been encoded."""
        if input_ids is not self.input_ids:
            return inputs
        features = {} if self.features is None else {"image": self.features}
        self.input_ids = self.features = None
        others = {name: value for name, value in inputs.items() if name not in IMAGES}
        return {**others, "mm_encoder_outputs": features}
