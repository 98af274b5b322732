"""Tokens that were added for a training with adapters."""

import pytest
from peft import LoraConfig, get_peft_model
from support.families import FAMILIES, family
from support.rows import image_dataset, tiny_pairs
from support.tiny import TRAINING
from transformers import AutoModelForImageTextToText, AutoProcessor

from trl_mm import MMDPOConfig, MMDPOTrainer
from trl_mm.tokens.added_tokens import tokens_without_embeddings
from trl_mm.trainer.parts.added_tokens import check_added_tokens


def with_a_new_token(checkpoint, resize=True):
    """A model and its processor, which knows a token more."""
    model, processor = (
        AutoModelForImageTextToText.from_pretrained(checkpoint),
        AutoProcessor.from_pretrained(checkpoint),
    )
    processor.tokenizer.add_tokens(["<new>"])
    if resize:
        model.resize_token_embeddings(len(processor.tokenizer))
    return model, processor


def train(model, processor, folder, **lora):
    return MMDPOTrainer(
        model,
        args=MMDPOConfig(str(folder), **TRAINING),
        train_dataset=image_dataset(tiny_pairs(2)),
        processing_class=processor,
        peft_config=LoraConfig(r=2, **lora) if lora else None,
    )


@pytest.mark.parametrize(
    "lora", [{}, {"modules_to_save": ["embed_tokens"]}, {"trainable_token_indices": {"embed_tokens": [351]}}]
)
def test_embeddings_that_an_adapter_would_lose_are_refused(checkpoint, tmp_path, lora):
    model, processor = with_a_new_token(checkpoint)
    with pytest.raises(
        ValueError,
        match=r"has 352 embeddings, but `.*`, from which .* has 351: .*modules_to_save=\['embed_tokens', 'lm",
    ):
        train(model, processor, tmp_path, lora_alpha=4, **lora)


def test_embeddings_that_are_saved_are_taken(checkpoint, tmp_path):
    model, processor = with_a_new_token(checkpoint)
    model.save_pretrained(tmp_path / "resized")
    processor.save_pretrained(tmp_path / "resized")
    train(str(tmp_path / "resized"), None, tmp_path, lora_alpha=4)
    train(model, processor, tmp_path)  # a whole model
    model, processor = with_a_new_token(checkpoint)
    train(model, processor, tmp_path, modules_to_save=["embed_tokens", "lm_head"])


def test_tokens_without_embeddings_are_named(checkpoint, tmp_path):
    model, processor = with_a_new_token(checkpoint, resize=False)
    with pytest.raises(ValueError, match=r"has 1 tokens, such as '<new>', .* \(351 rows\). Give it some"):
        train(model, processor, tmp_path, lora_alpha=4)


@pytest.mark.parametrize("name", FAMILIES)
def test_families_have_embeddings_of_all_their_tokens(name):
    model, processor = family(name)
    model = type(model)(model.config)
    assert not tokens_without_embeddings(processor, model.config, model.get_input_embeddings().weight.shape[0])
    check_added_tokens(get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"])), processor)
