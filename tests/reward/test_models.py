import pytest
import torch
from support.families import FAMILIES
from support.tiny import tiny_image
from transformers import AutoModelForSequenceClassification

from trl_mm.reward.models import REWARD_MODELS


def inputs_of(processor, side="right", texts=("Yes.", "It is a red circle."), seed=0):
    tokens = [
        processor.apply_chat_template(
            [
                {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]},
                {"role": "assistant", "content": [{"type": "text", "text": text}]},
            ]
        )
        for text in texts
    ]
    images = [[tiny_image(seed + index)] for index in range(len(texts))]
    return processor(text=tokens, images=images, padding=True, padding_side=side, return_tensors="pt")


@pytest.mark.parametrize("family", FAMILIES)
def test_any_generation_checkpoint_becomes_a_reward_model(family, tmp_path):
    made, processor = FAMILIES[family]()
    made.save_pretrained(tmp_path / "generation")
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "generation", num_labels=1).eval()
    torch.nn.init.normal_(model.score.weight)
    own = dict(made.model.named_parameters())
    assert all(torch.equal(own[name], weight) for name, weight in model.base_model.named_parameters())
    with torch.no_grad():
        scores = model(**inputs_of(processor)).logits
        assert scores.shape == (2, 1) and scores[0] != scores[1]
        assert torch.allclose(model(**inputs_of(processor, "left")).logits, scores, atol=1e-4, rtol=1e-4)
        alone = model(**inputs_of(processor, texts=("Yes.",))).logits
        assert torch.allclose(alone, scores[:1], atol=1e-4, rtol=1e-4)
        assert not torch.allclose(model(**inputs_of(processor, seed=5)).logits, scores, atol=1e-3, rtol=1e-3)
        model.save_pretrained(tmp_path / "reward")
        again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "reward").eval()
        assert again.config.num_labels == 1 and type(again) is type(model)
        assert torch.allclose(again(**inputs_of(processor)).logits, scores, atol=1e-5, rtol=1e-5)
        weights = dict(again.named_parameters())
        assert all(torch.equal(weights[name], weight) for name, weight in model.named_parameters())


def test_the_score_is_read_at_the_eos_where_padding_is_one_too():
    made, processor = FAMILIES["llava_next"]()
    config = made.config
    config.num_labels = 1
    model = REWARD_MODELS[type(config)](config).eval()
    inputs = inputs_of(processor)
    with torch.no_grad():
        scores = model(**inputs).logits
        config.get_text_config().pad_token_id = processor.tokenizer.eos_token_id
        ids = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, processor.tokenizer.eos_token_id)
        assert torch.equal(model(**{**inputs, "input_ids": ids}).logits, scores)
