"""Weights in half precision: what trains moves, and losses are those of float32 within rounding."""

import copy
import logging
import math

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors import safe_open
from support.families import family
from support.rows import image_dataset, tiny_pairs
from support.tiny import TRAINING, save_tiny, tiny_model, tiny_processor
from transformers import AutoModelForImageTextToText

from trl_mm import BDHSConfig, BDHSDataGenerator, MMDPOConfig, MMDPOTrainer, MMOnlineDPOConfig, MMOnlineDPOTrainer
from trl_mm.trainer.parts.data_types import settle_data_types


LORA = {"r": 2, "target_modules": r".*language_model.*\.(q_proj|v_proj|down_proj)"}
TRAINERS = {
    "dpo": (MMDPOTrainer, MMDPOConfig, {}),
    "online-dpo": (MMOnlineDPOTrainer, MMOnlineDPOConfig, {"offline_probability": 1.0}),
}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """The same model, of weights that float16 holds, in float16 and in float32."""
    folder = tmp_path_factory.mktemp("models")
    save_tiny(folder / "float16", scale=4)
    model = tiny_model(scale=4).half()
    model.save_pretrained(folder / "float16")
    tiny_processor().save_pretrained(folder / "float32")
    model.float().save_pretrained(folder / "float32")
    return folder


def make(model, folder, kind="dpo", lora=False, processor=None, callbacks=(), **settings):
    trainer, config, own = TRAINERS[kind]
    loads_reference = lora or model.name_or_path or "precompute_ref_log_probs" in settings
    return trainer(
        model,
        args=config(
            **{
                "output_dir": str(folder),
                "per_device_train_batch_size": 2,
                "max_steps": 3,
                "logging_steps": 1,
                "lr_scheduler_type": "constant",
                **TRAINING,
                "bf16": True,
                "gradient_checkpointing": False,
                "max_length": None,
                **own,
                **settings,
            }
        ),
        train_dataset=image_dataset(tiny_pairs(4)),
        processing_class=processor or tiny_processor(),
        peft_config=LoraConfig(**LORA) if lora else None,
        ref_model=None if loads_reference else copy.deepcopy(model),
        callbacks=list(callbacks),
    )


def loaded(folder):
    """As in the README, without a `dtype`: transformers takes that of the checkpoint, also for a reference."""
    return AutoModelForImageTextToText.from_pretrained(folder)


def losses(trainer):
    trainer.train()
    return torch.tensor([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])


def share_moved(trainer):
    """Share of the weights that train which training changes."""
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters() if p.requires_grad}
    trainer.train()
    changed = sum((trainer.model.get_parameter(name) != p).sum().item() for name, p in before.items())
    return changed / sum(p.numel() for p in before.values())


@pytest.mark.parametrize("kind", TRAINERS)
@pytest.mark.parametrize("settings", [{}, {"freeze_vision_tower": True, "gradient_checkpointing": True}])
def test_small_steps_move_weights_that_were_loaded_in_bfloat16(kind, settings, tmp_path):
    settings = {"kind": kind, "learning_rate": 1e-6, **settings}
    model = tiny_model(scale=4).bfloat16()
    expected = share_moved(make(copy.deepcopy(model).float(), tmp_path, **settings))
    trainer = make(model, tmp_path, **settings)
    frozen = [p for p in trainer.model.parameters() if not p.requires_grad]
    assert all(p.dtype == torch.float32 for p in trainer.model.parameters() if p.requires_grad)
    assert all(p.dtype == torch.bfloat16 for p in frozen) and bool(frozen) == ("freeze_vision_tower" in settings)
    assert share_moved(trainer) > 0.98 * expected > 0.5


@pytest.mark.parametrize("kind", TRAINERS)
def test_policy_and_reference_agree_before_the_first_step(kind, tmp_path):
    trainer = make(tiny_model(scale=4).bfloat16(), tmp_path, kind, freeze_vision_tower=True)
    types = [[p.dtype for p in model.parameters()] for model in (trainer.model, trainer.ref_model)]
    assert types[0] == types[1]
    assert losses(trainer)[0].item() == pytest.approx(math.log(2), abs=1e-4)


@pytest.mark.parametrize(
    ("name", "frozen"),
    [
        ("llava_next", ["freeze_projector"]),
        ("qwen3_vl", ["freeze_vision_tower"]),
        ("gemma3", []),
        ("internvl", ["freeze_projector"]),
    ],
)
def test_families_train_with_parts_of_both_types(name, frozen, tmp_path):
    model, processor = family(name)
    settings = {"processor": processor, "learning_rate": 1e-3, **dict.fromkeys(frozen, True)}
    expected = losses(make(copy.deepcopy(model).bfloat16().float(), tmp_path, **settings))
    found = losses(make(copy.deepcopy(model).bfloat16(), tmp_path, **settings))
    torch.testing.assert_close(found, expected, rtol=2e-2, atol=0)


def types_in(path):
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name).dtype for name in file.keys()}  # noqa: SIM118


def test_checkpoints_keep_all_bits_and_the_model_is_saved_as_it_was_loaded(tmp_path):
    settings = {"freeze_vision_tower": True, "learning_rate": 1e-5, "save_strategy": "steps", "save_steps": 2}
    settings |= {"max_steps": 4, "save_total_limit": None}
    model = tiny_model(scale=4).bfloat16()
    whole = make(copy.deepcopy(model), tmp_path, **settings)
    expected = losses(whole)
    resumed = make(copy.deepcopy(model), tmp_path, **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    found = torch.tensor([entry["loss"] for entry in resumed.state.log_history if "loss" in entry])
    assert torch.equal(found, expected)
    for name, weight in whole.model.named_parameters():
        assert torch.equal(resumed.model.get_parameter(name), weight), name
    saved = types_in(tmp_path / "checkpoint-2" / "model.safetensors")
    assert {dtype for name, dtype in saved.items() if "vision_tower" not in name} == {torch.float32}
    assert {dtype for name, dtype in saved.items() if "vision_tower" in name} == {torch.bfloat16}
    trained = {name: p.detach().clone() for name, p in whole.model.named_parameters()}
    whole.save_model(str(tmp_path / "model"))
    assert set(types_in(tmp_path / "model" / "model.safetensors").values()) == {torch.bfloat16}
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path / "model")
    assert loaded.dtype == torch.bfloat16
    for name, weight in whole.model.named_parameters():
        assert torch.equal(weight, trained[name]) and torch.equal(loaded.get_parameter(name), weight.bfloat16())


@pytest.mark.parametrize("kind", TRAINERS)
@pytest.mark.parametrize("lora", [True, False], ids=["lora", "full"])
@pytest.mark.parametrize("bf16", [True, False])
def test_a_checkpoint_in_float16_trains_as_one_in_float32(kind, lora, bf16, checkpoints, tmp_path, caplog):
    settings = {"kind": kind, "lora": lora, "learning_rate": 1e-2 if lora else 1e-4}
    expected = losses(make(loaded(checkpoints / "float32"), tmp_path, bf16=False, **settings))
    with caplog.at_level(logging.WARNING, "trl_mm.trainer.parts.data_types"):
        trainer = make(loaded(checkpoints / "float16"), tmp_path, bf16=bf16, **settings)
    assert len([r for r in caplog.records if r.name == "trl_mm.trainer.parts.data_types"]) == 1
    assert "The model is in float16" in caplog.text
    for model in (trainer.model, trainer.ref_model):
        for parameter in [] if model is None else model.parameters():
            frozen = lora and bf16 and not parameter.requires_grad
            assert parameter.dtype == (torch.bfloat16 if frozen else torch.float32)
    found = losses(trainer)
    torch.testing.assert_close(found, expected, rtol=2e-2 if bf16 else 1e-3, atol=0)  # PEFT makes adapters in float16
    assert abs(expected[-1] - expected[0]) > 5e-3


@pytest.mark.parametrize("online", [True, False])
def test_pairs_are_made_by_a_policy_of_both_types(online, tmp_path):
    bdhs = BDHSConfig(similarity="lexical", max_sentence_tokens=5, max_answer_tokens=5)
    settings = {"callbacks": [BDHSDataGenerator(bdhs, online=online)], "freeze_vision_tower": True}
    trainer = make(tiny_model(scale=4).bfloat16(), tmp_path, learning_rate=1e-6, **settings)
    found = losses(trainer)
    assert found[0].item() == pytest.approx(math.log(2), abs=1e-4) and torch.isfinite(found).all()


def test_precomputed_log_probs_are_those_of_the_policy(tmp_path):
    settings = {"precompute_ref_log_probs": True, "ref_log_probs_dir": str(tmp_path / "cache")}
    trainer = make(tiny_model(scale=4).bfloat16(), tmp_path, freeze_vision_tower=True, **settings)
    assert losses(trainer)[0].item() == pytest.approx(math.log(2), abs=1e-4)


def test_a_projector_beside_adapters_trains_in_a_float16_model(checkpoints, tmp_path):
    settings = {"lora": True, "learning_rate": 1e-2, "projector_learning_rate": 1e-2}
    expected = losses(make(loaded(checkpoints / "float32"), tmp_path, bf16=False, **settings))
    found = losses(make(loaded(checkpoints / "float16"), tmp_path, **settings))
    torch.testing.assert_close(found, expected, rtol=2e-2, atol=0)


@pytest.mark.parametrize("mixed_precision", ["no", "bf16", "fp16"])
def test_adapters_are_in_float32(mixed_precision):
    lora = LoraConfig(**LORA)
    model = get_peft_model(tiny_model().half(), lora, autocast_adapter_dtype=False)
    model.add_adapter("ref", lora, autocast_adapter_dtype=False)
    saved = settle_data_types(model, mixed_precision)
    frozen = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[mixed_precision]
    assert saved == {}
    for name, parameter in model.named_parameters():
        assert parameter.dtype == (torch.float32 if "lora" in name else frozen), name


@pytest.mark.parametrize(("lora", "warns"), [(True, False), (False, True)])
def test_bfloat16_without_autocast_is_warned_of(lora, warns, tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "trl_mm.trainer.parts.data_types"):
        make(tiny_model(scale=4).bfloat16(), tmp_path, lora=lora, bf16=False)
    assert ("trains in bfloat16" in caplog.text and "Set `bf16=True`" in caplog.text) == warns


def test_float32_is_left_alone_without_a_word(tmp_path, caplog):
    with caplog.at_level(logging.INFO, "trl_mm.trainer.parts.data_types"):
        trainer = make(tiny_model(), tmp_path)
    assert trainer.saved_types == {} and "float32" not in caplog.text


def test_tied_weights_stay_tied():
    model = tiny_model().bfloat16()
    model.lm_head.weight = model.get_input_embeddings().weight
    settle_data_types(model, "bf16")
    assert model.lm_head.weight is model.get_input_embeddings().weight
    assert model.lm_head.weight.dtype == torch.float32
