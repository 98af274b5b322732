"""Values of tokens, shared or not, beside scores of the plain model read one by one."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from support.families import FAMILIES
from support.rows import image_dataset, said
from support.tiny import tiny_row
from trl.trainer.utils import add_fused_lm_head

from trl_mm.tokens.collator import PreferenceCollator
from trl_mm.trainer.prefix_sharing.shared_forward import share_prefixes
from trl_mm.trainer.prefix_sharing.shared_values import add_values, share_values, token_values
from trl_mm.trainer.shared_base import new_value_model


def pairs(processor, once):
    rows = [
        {**tiny_row(seed, size=(30 + 10 * seed, 40)), "rejected": said("There is a dog." * seed)} for seed in (1, 2)
    ]
    rows = image_dataset(rows)
    batch = PreferenceCollator(processor, images_per_prompt=once)([rows[0], rows[1]])
    mask = batch.pop("completion_mask")
    return batch, batch["input_ids"].masked_fill(mask == 0, -100)


def policy_and_value(model):
    torch.manual_seed(0)
    policy = get_peft_model(model, LoraConfig(r=2, target_modules=r".*(language|text)_model.*\.(q_proj|v_proj)"))
    value = new_value_model(policy)
    for name, weight in (*policy.named_parameters(), *value.named_parameters()):
        if "lora_B" in name or "score" in name:
            torch.nn.init.normal_(weight, std=0.3)
    return policy.eval(), value.eval()


@pytest.mark.parametrize("family", FAMILIES)
def test_shared_values_are_those_of_rows_alone(family):
    model, processor = FAMILIES[family]()
    _, value = policy_and_value(model)
    batch, labels = pairs(processor, once=False)
    with torch.no_grad():
        plain = token_values(value, labels, **batch)
        scored = value.get_base_model()
        states = scored.base_model(**batch).last_hidden_state
        expected = scored.score(states)[:, :-1, 0].masked_fill(labels[:, 1:] == -100, 0.0)
        share_values(value)
        batch, labels = pairs(processor, once=True)
        shared = token_values(value, labels, 2, **batch)
    assert plain.shape == (4, labels.shape[1] - 1) and plain.unique().numel() > 20
    assert torch.allclose(plain, expected, atol=1e-5)
    assert torch.allclose(shared, expected, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("shares", [True, False])
def test_one_call_returns_values_beside_what_it_returned_before(shares):
    model, processor = FAMILIES["llava_next"]()
    policy, value = policy_and_value(model)
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    if shares:
        share_prefixes(model)
    batch, labels = pairs(processor, once=shares)
    branches = {"num_branches": 2} if shares else {}
    before = policy(**batch, labels=labels, fused_lm_head=True, **branches)
    logits = policy(**batch).logits if not shares else None
    add_values(model, value, shares)
    plain = policy(**batch, labels=labels, fused_lm_head=True, **branches)
    valued = policy(**batch, labels=labels, fused_lm_head=True, with_values=True, **branches)
    assert type(plain) is type(before) and torch.equal(plain.log_probs, before.log_probs)
    assert torch.equal(valued.log_probs, before.log_probs) and torch.equal(valued.entropy, before.entropy)
    assert torch.equal(valued.token_values, token_values(value, labels, branches.get("num_branches"), **batch))
    if logits is not None:
        assert torch.equal(policy(**batch).logits, logits)
    (valued.log_probs.sum() + valued.token_values.sum()).backward()
    for part in (policy, value):
        assert all(weight.grad is not None for weight in part.parameters() if weight.requires_grad)
        assert all(weight.grad is None for weight in part.parameters() if not weight.requires_grad)


def test_values_have_float32_in_half_precision():
    model, processor = FAMILIES["llava_next"]()
    _, value = policy_and_value(model)
    share_values(value)
    batch, labels = pairs(processor, once=True)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        values = token_values(value, labels, 2, **batch)
    assert values.dtype == torch.float32
    # Rounded to bfloat16, all of them would be the same after a trip through it
    assert not torch.equal(values.bfloat16().float(), values)
