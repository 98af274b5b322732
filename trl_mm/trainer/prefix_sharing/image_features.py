"""Policy and reference look at the same pixels: a frozen vision part encodes them once for both."""

import functools

import torch
from torch.distributed.tensor import DTensor


OF_THE_TOWER = ("last_hidden_state", "hidden_states", "attentions")


def vision_part(backbone):
    """Parameters (`dict[str, torch.nn.Parameter]`) of all that comes before the language model."""
    language = ("language_model.", "text_model.")
    return {name: p for name, p in backbone.named_parameters() if not name.startswith(language)}


def same_vision_part(backbone, other):
    """Whether two models encode images alike, as far as weights can be seen here (not with ZeRO-3 and FSDP)."""
    ours, theirs = vision_part(backbone), vision_part(other)
    return ours.keys() == theirs.keys() and all(
        not _is_spread(ours[name])
        and not _is_spread(theirs[name])
        and torch.equal(ours[name].to(theirs[name]), theirs[name])
        for name in ours
    )


def _is_spread(weight):
    return hasattr(weight, "ds_id") or isinstance(weight, DTensor)


def encode_once(policy, reference=None):
    """
    Let image features that the policy computed serve the reference too, as long as nothing that encodes is trained.

    The second call with the very tensor of pixels of the first gets its features; any other tensor is encoded.

    Args:
        policy ([`~transformers.PreTrainedModel`]): model without its LM head.
        reference ([`~transformers.PreTrainedModel`], *optional*): the same of a reference that encodes images alike;
            `None` if it is the policy itself with other adapters.
    """
    encoders = list(vision_part(policy).values())
    kept = {"pixel_values": None, "features": None}

    def once(compute):
        @functools.wraps(compute)
        def get_image_features(pixel_values, *args, **kwargs):
            if pixel_values is kept["pixel_values"]:
                features = kept["features"]
                kept.update(pixel_values=None, features=None)
                return features
            outputs = compute(pixel_values, *args, **kwargs)
            if not any(parameter.requires_grad for parameter in encoders):
                # Without the hidden states of the tower, which are as large as the rest of the batch
                small = {name: value for name, value in outputs.items() if name not in OF_THE_TOWER}
                kept.update(pixel_values=pixel_values, features=type(outputs)(**small))
            return outputs

        return get_image_features

    for backbone in [policy] if reference is None else [policy, reference]:
        backbone.get_image_features = once(backbone.get_image_features)
