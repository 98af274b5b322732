"""Adapters folded into the weights while answers are sampled: the same answers, and then the same bits as before."""

import copy
import logging

import pytest
import torch
from peft import LoraConfig, get_peft_model
from support.tiny import tiny_model, tiny_processor, tiny_row
from transformers import GenerationConfig

from trl_mm.generation import Completer, Request, SamplingSettings, generating, merged_adapters
from trl_mm.generation.answers import sample_answers
from trl_mm.generation.merged_adapters import has_room, merge_for_good, mergeable_layers, merged_when_generating


TARGETS = ["q_proj", "v_proj", "down_proj", "embed_tokens"]


def adapted(dtype=torch.float32, trained=True, base=None, **settings):
    """A model with a LoRA that changes what it says."""
    torch.manual_seed(1)
    model = get_peft_model(
        base or tiny_model(scale=4).to(dtype), LoraConfig(**{"r": 4, "target_modules": TARGETS, **settings})
    )
    if trained:
        for name, weight in model.named_parameters():
            if "lora_B" in name or "lora_embedding_B" in name:
                torch.nn.init.normal_(weight, std=0.2)
    return model


def state(model):
    return {name: (value.clone(), value.data_ptr()) for name, value in model.state_dict(keep_vars=True).items()}


def assert_same(now, before):
    """Bit for bit, in the same memory."""
    for name, (value, place) in before.items():
        assert torch.equal(now[name], value) and now[name].data_ptr() == place, name


def merged_layers(model):
    return [layer for layer in model.modules() if getattr(layer, "merged_adapters", None)]


def completed(model, **settings):
    rows = [tiny_row(seed) for seed in range(3)]
    completer = Completer(tiny_processor(), SamplingSettings(max_new_tokens=8, **settings))
    requests = [Request(prompt, seed=(prompt.row["row_id"],)) for prompt in completer.prompts(rows)]
    return completer.complete(model, requests)


@pytest.mark.parametrize("temperature", [0.0, 1.0], ids=["greedy", "sampled"])
def test_answers_are_those_of_the_adapter_and_the_weights_come_back(temperature):
    model = adapted()
    before = state(model)
    beside = completed(model, temperature=temperature)
    with model.disable_adapter():
        assert completed(model, temperature=temperature) != beside  # so the adapter says something
    with merged_when_generating(model, True):
        assert not merged_layers(model)  # nothing is paid for before it is needed
        assert completed(model, temperature=temperature) == beside
        assert len(merged_layers(model)) == 11
        assert completed(model, temperature=temperature) == beside
    assert not merged_layers(model)
    assert_same(model.state_dict(keep_vars=True), before)
    assert completed(model, temperature=temperature) == beside


def test_several_answers_to_a_prompt_are_those_of_the_adapter():
    model, config = adapted(), GenerationConfig(max_new_tokens=6, do_sample=True, eos_token_id=1, pad_token_id=0)
    rows, seeds = [tiny_row(0), tiny_row(1)], [(0,), (1,)]
    beside = sample_answers(model, tiny_processor(), rows, config, seeds)
    with merged_when_generating(model, True):
        assert sample_answers(model, tiny_processor(), rows, config, seeds) == beside


@pytest.mark.parametrize("room", [True, False], ids=["there is room", "weights wait on the CPU"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_weights_come_back_bit_for_bit(dtype, room, monkeypatch):
    monkeypatch.setattr(merged_adapters, "has_room", lambda size, device: room)
    model = adapted(dtype)
    before = state(model)
    for _ in range(3):
        with merged_when_generating(model, True), generating(model):
            weight = merged_layers(model)[0].get_base_layer().weight
            assert weight.dtype == dtype
        assert_same(model.state_dict(keep_vars=True), before)
    layer = next(layer for layer in mergeable_layers(model) if hasattr(layer, "merge"))
    if dtype is torch.bfloat16:  # what is to be avoided
        for _ in range(3):
            layer.merge()
            layer.unmerge()
        assert not torch.equal(layer.get_base_layer().weight, before[name_of(model, layer)][0])


def name_of(model, layer):
    return next(name for name, module in model.named_modules() if module is layer) + ".base_layer.weight"


@pytest.mark.parametrize("room", [True, False])
def test_weights_come_back_after_an_exception(room, monkeypatch):
    monkeypatch.setattr(merged_adapters, "has_room", lambda size, device: room)
    model = adapted()
    before = state(model)
    with pytest.raises(RuntimeError, match="in the middle"), merged_when_generating(model, True), generating(model):
        assert merged_layers(model)
        raise RuntimeError("in the middle")
    assert not merged_layers(model)
    assert_same(model.state_dict(keep_vars=True), before)


def test_weights_come_back_if_merging_fails(monkeypatch):
    model = adapted()
    before, layers = state(model), mergeable_layers(model)
    monkeypatch.setattr(layers[3], "merge", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError), merged_when_generating(model, True), generating(model):
        pass
    assert not merged_layers(model)
    assert_same(model.state_dict(keep_vars=True), before)


def test_weights_come_back_where_peft_has_unmerged_them_already():
    model = adapted(torch.bfloat16)
    before = state(model)
    with merged_when_generating(model, True), generating(model), model.disable_adapter():
        model(input_ids=torch.tensor([[5, 6]]))
        assert len(merged_layers(model)) == 4  # those of the vision part, which was not asked
    assert_same(model.state_dict(keep_vars=True), before)


def test_training_goes_on_as_if_nothing_had_been_merged():
    first = adapted().train()
    second = copy.deepcopy(first)
    ids = torch.tensor([[5, 6, 7, 8]])
    for model, merge in ((first, False), (second, True)):
        optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=0.01)
        for _ in range(3):
            with merged_when_generating(model, merge):
                completed(model)
            assert model.training
            model(input_ids=ids, labels=ids).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    for (name, one), other in zip(first.named_parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other) and one.requires_grad == other.requires_grad, name


def test_gradients_that_wait_for_more_stay():
    model, ids = adapted(), torch.tensor([[5, 6, 7, 8]])
    model(input_ids=ids, labels=ids).loss.backward()
    gradients = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    with merged_when_generating(model, True):
        completed(model)
    weights = dict(model.named_parameters())
    assert all(torch.equal(weights[name].grad, gradient) for name, gradient in gradients.items())


@pytest.mark.parametrize(
    ("settings", "left"),
    [
        ({"use_dora": True}, 11),
        ({"lora_bias": True, "target_modules": ["q_proj"], "bias": "none"}, 4),
        ({"target_modules": ["q_proj", "conv"]}, 0),
    ],
    ids=["DoRA", "bias", "none"],
)
def test_what_is_more_than_a_sum_stays_beside_and_is_said_once(settings, left, caplog):
    merged_adapters._say.cache_clear()
    if settings.get("lora_bias"):
        base = tiny_model(scale=4)
        for layer in base.model.language_model.layers:
            layer.self_attn.q_proj.bias = torch.nn.Parameter(torch.zeros(layer.self_attn.q_proj.out_features))
        model = adapted(base=base, **settings)
    else:
        model = adapted(**settings)
    beside = completed(model, temperature=0.0)
    with caplog.at_level(logging.INFO, logger="trl_mm"), merged_when_generating(model, True):
        assert completed(model, temperature=0.0) == beside
        assert bool(merged_layers(model)) == (not left)
        with generating(model):
            pass
    said = [record.getMessage() for record in caplog.records if "stay beside" in record.getMessage()]
    assert len(said) == bool(left)
    assert all(f"{left} adapters stay beside their weights" in message for message in said)


def test_a_weight_that_another_layer_has_too_is_not_touched():
    base = tiny_model(scale=4)
    base.lm_head.weight = base.get_input_embeddings().weight
    model = adapted(base=base)
    beside = completed(model, temperature=0.0)
    with merged_when_generating(model, True):
        assert completed(model, temperature=0.0) == beside
        assert len(merged_layers(model)) == 10


def test_quantized_weights_stay(monkeypatch):
    model = adapted()
    layer = mergeable_layers(model)[0]
    layer.get_base_layer().weight = torch.nn.Parameter(torch.zeros(4, 4, dtype=torch.int8), requires_grad=False)
    assert layer not in mergeable_layers(model)


def test_by_default_adapters_are_merged_on_gpus():
    model = adapted()
    with merged_when_generating(model), generating(model):
        assert not merged_layers(model)
    with merged_when_generating(tiny_model(), True), generating(tiny_model()):
        pass
    assert merged_adapters.is_wanted(torch.nn.Module().to("meta"), True)
    meta = torch.device("meta")
    assert merged_adapters.is_wanted(type("Model", (), {"device": meta})(), None)
    assert not merged_adapters.is_wanted(type("Model", (), {"device": meta})(), False)


def test_merging_for_good_answers_alike():
    model = adapted()
    beside = completed(model, temperature=0.0)
    merge_for_good(model)
    assert not merged_layers(model)
    merge_for_good(model, True)
    assert len(merged_layers(model)) == 11
    merge_for_good(model, True)  # nothing is added twice
    assert completed(model, temperature=0.0) == beside


@pytest.mark.parametrize(("free", "cached", "room"), [(40, 0, True), (20, 0, False), (20, 10, True), (29, 0, False)])
def test_there_is_room_if_an_eighth_of_the_memory_stays_free(free, cached, room, monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 80))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: cached)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 0)
    assert has_room(20, torch.device("cuda")) == room
    assert has_room(20, torch.device("cpu"))
