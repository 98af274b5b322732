"""An image of weight zero: on one process here, on several in `tests/distributed`."""

import copy
import logging

import pytest
import torch
from support.families import FAMILIES, family
from support.tiny import tiny_image, tiny_model, tiny_processor, tiny_row
from trl.trainer.utils import add_fused_lm_head

from trl_mm.tokens.collator import PreferenceCollator
from trl_mm.trainer.prefix_sharing.dummy_image import DummyImage
from trl_mm.trainer.prefix_sharing.image_features import SharedFeatures, vision_part
from trl_mm.trainer.prefix_sharing.shared_forward import share_prefixes


def batch_of(processor, images):
    row = {**tiny_row(), "images": images, "rejected": [{"role": "assistant", "content": "A dog."}]}
    return {name: value for name, value in PreferenceCollator(processor)([row]).items() if name != "completion_mask"}


def logits_and_gradients(model, batch, **inputs):
    model.zero_grad()
    logits = model(**batch, **inputs, use_cache=False).logits
    (logits * torch.arange(logits.numel()).view(logits.shape).cos()).sum().backward()
    return logits, {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("name", FAMILIES)
def test_outputs_stay_and_the_weights_with_a_gradient_are_those_of_a_real_image(name):
    model, processor = copy.deepcopy(family(name)[0]), family(name)[1]
    text, with_image = (batch_of(processor, images) for images in ([], [tiny_image()]))
    expected, gradients = logits_and_gradients(model, text)
    _, with_image = logits_and_gradients(model, with_image)

    dummy = DummyImage([model], processor, sharded=True)
    logits, got = logits_and_gradients(model, dummy.added_to(text))
    assert torch.equal(logits, expected)
    encoders = {id(parameter) for parameter in vision_part(model.base_model).values()}
    encoded = 0
    for key, parameter in model.named_parameters():
        if id(parameter) in encoders:
            assert gradients[key] is None
            assert (got[key] is None) == (with_image[key] is None), key
            assert got[key] is None or not got[key].any()
            encoded += got[key] is not None
        else:
            assert torch.equal(got[key], gradients[key]), key
    assert encoded > 0


def test_only_batches_that_need_it_get_one():
    model, text = tiny_model().train(), {"input_ids": torch.tensor([[5, 6]])}
    image = {**text, "pixel_values": torch.zeros(1)}
    sharded, whole = (DummyImage([model], tiny_processor(), sharded) for sharded in (True, False))
    assert sharded.added_to(image) is image
    assert "dummy_image" in sharded.added_to(text) and "dummy_image" in whole.added_to(text)
    assert ["dummy_image" in pair for pair in sharded.added_to({"pairs": [text, image]})["pairs"]] == [True, False]
    model.eval()
    assert "dummy_image" in sharded.added_to(text) and "dummy_image" not in whole.added_to(text)
    model.train()
    for parameter in vision_part(model.base_model).values():
        parameter.requires_grad = False
    assert "dummy_image" in sharded.added_to(text) and "dummy_image" not in whole.added_to(text)


def sharing(*models):
    """Models that share prefixes and image features, their dummy image, and a list of the models that encode it."""
    features, encoded = SharedFeatures(models[0].base_model), []
    for model in models:
        add_fused_lm_head(model)
        share_prefixes(model, features)
        model.base_model.vision_tower.register_forward_hook(lambda *_, model=model: encoded.append(model))
    return DummyImage(models, tiny_processor(), sharded=True), encoded


def text_batch(dummy):
    row = {**tiny_row(), "images": [], "rejected": [{"role": "assistant", "content": "A dog."}]}
    batch = PreferenceCollator(tiny_processor(), images_per_prompt=True)([row])
    labels = batch["input_ids"].masked_fill(batch.pop("completion_mask") == 0, -100)
    return {**dummy.added_to(batch), "labels": labels, "fused_lm_head": True}


def test_a_frozen_vision_part_encodes_it_once_for_policy_and_reference():
    policy, reference = tiny_model().requires_grad_(False), tiny_model()
    dummy, encoded = sharing(policy, reference)
    # As real images do, it comes to the policy first, in every batch
    for _ in range(2):
        batch = text_batch(dummy)
        assert torch.equal(policy(**batch).log_probs, reference(**batch).log_probs)
    assert encoded == [policy, policy]


def test_what_one_batch_leaves_over_does_not_serve_the_next():
    """PEFT's reference is the policy with adapters off, which look frozen then: nobody may use its features again."""
    model = tiny_model()
    dummy, encoded = sharing(model)
    for _ in range(2):
        batch = text_batch(dummy)
        model.requires_grad_(True)(**batch)
        model.requires_grad_(False)(**batch)
    assert len(encoded) == 4


def test_a_pass_without_it_encodes_nothing_after_one_with_it():
    model = tiny_model()
    dummy, encoded = sharing(model)
    text = {"input_ids": torch.tensor([[5, 6]])}
    model(**dummy.added_to(text))
    model(**text)
    model.base_model.language_model(**text)
    assert len(encoded) == 1


def test_a_model_that_it_does_not_know_is_left_alone_with_a_warning(caplog):
    model = tiny_model()
    model.base_model.language_model = None
    with caplog.at_level(logging.WARNING, logger="trl_mm"):
        dummy = DummyImage([model], tiny_processor(), sharded=True)
    assert "`llava_next` model for ever. Leave out rows without images" in caplog.text
    batch = {"input_ids": torch.tensor([[5, 6]])}
    assert dummy.added_to(batch) is batch
