"""Adapters over one copy of the base weights: what is shared, what is not, and what is refused."""

import json
import shutil

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from support.families import FAMILIES
from support.rows import image_dataset, said
from support.tiny import tiny_processor, tiny_row
from transformers import AutoModelForImageTextToText, AutoModelForSequenceClassification

from trl_mm.tokens.collator import PreferenceCollator
from trl_mm.trainer.shared_base import (
    checked_adapter,
    new_value_model,
    reward_adapter,
    same_model,
    scored_twin,
)


LANGUAGE = r".*language_model.*\.(q_proj|v_proj)"


def policy_of(folder, **settings):
    """A policy whose adapters do something."""
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_pretrained(folder)
    policy = get_peft_model(model, LoraConfig(r=2, target_modules=LANGUAGE, **settings))
    moved(policy)
    return policy


def moved(model):
    """The model, with adapters that are no longer 0."""
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)


def batch(processor=None):
    rows = [{**tiny_row(seed, size=(30 + 10 * seed, 40)), "rejected": said("No.")} for seed in range(2)]
    made = PreferenceCollator(processor or tiny_processor()).of_one_answer([image_dataset(rows)[i] for i in range(2)])
    del made["completion_mask"]
    return made


@pytest.fixture(scope="module")
def adapter(checkpoint, tmp_path_factory):
    """A reward model's adapters, as they are saved."""
    folder = tmp_path_factory.mktemp("adapter")
    torch.manual_seed(1)
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint, num_labels=1)
    torch.nn.init.normal_(model.score.weight, std=0.5)
    made = get_peft_model(model, LoraConfig(r=2, target_modules=LANGUAGE, task_type="SEQ_CLS"))
    moved(made)
    made.save_pretrained(folder)
    return str(folder)


def rewards(policy, adapter, checkpoint, **settings):
    return reward_adapter(policy, checked_adapter(adapter, checkpoint), **settings)


def changed(adapter, folder, weights=None, **config):
    """A copy with other weights or settings."""
    shutil.copytree(adapter, folder)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    if weights is not None:
        save_file(weights(load_file(folder / "adapter_model.safetensors")), folder / "adapter_model.safetensors")
    return str(folder)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_twin_has_the_weights_of_the_base_and_no_adapter(family):
    model, processor = FAMILIES[family]()
    inputs = batch(processor)
    with torch.no_grad():
        expected = model.base_model(**inputs).last_hidden_state
        weights = {weight.data_ptr() for weight in model.parameters()}
        policy = get_peft_model(model, LoraConfig(r=2, target_modules=r".*(language|text)_model.*\.(q_proj|v_proj)"))
        moved(policy)
        policy.eval()
        twin = scored_twin(policy).eval()
        assert not torch.allclose(policy.get_base_model().base_model(**inputs).last_hidden_state, expected)
        assert torch.equal(twin.base_model(**inputs).last_hidden_state, expected)
    own = {name for name, weight in twin.named_parameters() if weight.data_ptr() not in weights}
    assert own == {"score.weight"} and not twin.score.weight.any()
    assert all("lora" not in name for name, _ in twin.named_modules())


def test_a_reward_adapter_scores_as_if_it_was_loaded_by_itself(checkpoint, adapter):
    alone = AutoModelForSequenceClassification.from_pretrained(checkpoint, num_labels=1)
    alone = PeftModel.from_pretrained(alone, adapter).eval()
    policy = policy_of(checkpoint).eval()
    shared = rewards(policy, adapter, checkpoint)
    inputs = batch()
    with torch.no_grad():
        before = policy(**inputs).logits
        scores = shared(**inputs).logits
        assert torch.equal(scores, alone(**inputs).logits) and scores.unique().numel() == 2
        assert torch.equal(policy(**inputs).logits, before)
    assert not any(weight.requires_grad for weight in shared.parameters())
    assert not shared.training


def test_three_adapters_cost_one_base(checkpoint, adapter):
    policy = policy_of(checkpoint)
    size = sum(weight.numel() for weight in policy.parameters())
    models = torch.nn.ModuleList([policy, new_value_model(policy), rewards(policy, adapter, checkpoint)])
    added = sum(weight.numel() for weight in models.parameters()) - size
    lora = sum(weight.numel() for name, weight in policy.named_parameters() if "lora" in name)
    assert added == 2 * lora + 4 * 32  # PEFT keeps a score beside the one that trains


def test_gradients_stay_with_their_adapter(checkpoint):
    policy = policy_of(checkpoint, modules_to_save=["multi_modal_projector"])
    value = new_value_model(policy)
    names = {name for name, weight in policy.named_parameters() if weight.requires_grad}
    assert all("lora" in name or "projector.modules_to_save" in name for name in names)
    assert any("projector" in name for name in names)
    torch.nn.init.normal_(value.get_base_model().score.modules_to_save.default.weight)
    value(**batch()).logits.sum().backward()
    assert all(weight.grad is None for weight in policy.parameters())
    trained = {name for name, weight in value.named_parameters() if weight.grad is not None}
    assert trained == {name for name, weight in value.named_parameters() if weight.requires_grad}
    assert any("score" in name for name in trained) and not any("projector" in name for name in trained)


def test_gradient_checkpointing_runs_each_twin_with_its_own_adapter(checkpoint):
    """With one set of modules and a switch, layers would run again under the adapter that is active by then."""
    gradients = []
    for checkpointing in (False, True):
        policy = policy_of(checkpoint).train()
        torch.manual_seed(3)
        value = new_value_model(policy).train()
        moved(value)
        torch.nn.init.ones_(value.get_base_model().score.modules_to_save.default.weight)
        if checkpointing:
            for model in (policy, value):
                model.gradient_checkpointing_enable({"use_reentrant": False})
        inputs = batch()
        (policy(**inputs).logits.square().mean() + value(**inputs).logits.sum()).backward()
        both = [*policy.parameters(), *value.parameters()]
        gradients.append([weight.grad for weight in both if weight.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 10
    for plain, again in zip(*gradients, strict=True):
        assert torch.allclose(plain, again, atol=1e-6)


def test_a_value_model_may_begin_from_a_reward_adapter(checkpoint, adapter):
    policy = policy_of(checkpoint)
    reward, value = (
        rewards(policy, adapter, checkpoint),
        rewards(policy, adapter, checkpoint, trainable=True),
    )
    inputs = batch()
    with torch.no_grad():
        assert torch.equal(value.eval()(**inputs).logits, reward(**inputs).logits)
    trained = [name for name, weight in value.named_parameters() if weight.requires_grad]
    assert any("lora_A" in name for name in trained) and any("score" in name for name in trained)
    assert not any(weight.requires_grad for weight in reward.parameters())


def test_what_does_not_fit_is_refused(checkpoint, adapter, tmp_path):
    other = changed(adapter, tmp_path / "other", base_model_name_or_path="llava-hf/another")
    with pytest.raises(ValueError, match=r"has adapters for `llava-hf/another`, and the policy is"):
        checked_adapter(other, checkpoint)
    headless = changed(
        adapter, tmp_path / "headless", lambda weights: {k: v for k, v in weights.items() if "score" not in k}
    )
    with pytest.raises(ValueError, match="no trained score"):
        checked_adapter(headless, checkpoint)
    two = changed(
        adapter,
        tmp_path / "two",
        lambda weights: {k: v.repeat(2, 1).contiguous() if "score" in k else v for k, v in weights.items()},
    )
    with pytest.raises(ValueError, match="has 2 labels"):
        checked_adapter(two, checkpoint)


def test_names_of_the_same_model(checkpoint, adapter, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(checkpoint)
    assert same_model(checkpoint, str(link)) and same_model("a/b", "a/b")
    assert not same_model(None, "a/b") and not same_model("a/b", "a/c") and not same_model(checkpoint, adapter)
