"""QLoRA for real: bitsandbytes quantizes tiny models, on CPUs too."""

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file
from support.rows import image_dataset, tiny_pairs
from support.tiny import TRAINING, tiny_processor
from transformers import AutoModelForImageTextToText, BitsAndBytesConfig
from trl import DPOConfig, DPOTrainer

from trl_mm import BDHSConfig, BDHSDataGenerator, MMDPOConfig, MMDPOTrainer, MMOnlineDPOConfig, MMOnlineDPOTrainer
from trl_mm.trainer.parts.quantization import skip_quantizing_saved_modules


FOUR_BIT = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
LANGUAGE_MODEL = r".*language_model.*\.(q_proj|v_proj|down_proj)"


def make(
    model, folder, trainer=MMDPOTrainer, cls=MMDPOConfig, quantization=FOUR_BIT, lora=None, callbacks=(), **settings
):
    quantization = None if quantization is None else BitsAndBytesConfig(**quantization)
    options = {}
    if trainer is MMOnlineDPOTrainer:
        settings["model_init_kwargs"] = {"quantization_config": quantization}
    else:
        options["quantization_config"] = quantization
    arguments = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 2,
        "max_steps": 4,
        "learning_rate": 1e-2,
        "logging_steps": 1,
        **TRAINING,
        "max_length": None,
        **settings,
    }
    return trainer(
        model,
        args=cls(**arguments),
        train_dataset=image_dataset(tiny_pairs(8)),
        processing_class=tiny_processor(),
        peft_config=LoraConfig(r=2, **(lora or {})),
        callbacks=list(callbacks),
        **options,
    )


def steps(trainer, **options):
    """Loss and norm of the gradients of each step, of shape `(num_steps, 2)`."""
    trainer.train(**options)
    return torch.tensor([(step["loss"], step["grad_norm"]) for step in trainer.state.log_history if "loss" in step])


@pytest.mark.parametrize("quantization", [FOUR_BIT, {"load_in_8bit": True}], ids=["4-bit", "8-bit"])
def test_losses_are_those_of_trl(quantization, checkpoint, tmp_path):
    settings = {"quantization": quantization, "lora": {"target_modules": LANGUAGE_MODEL}, "max_steps": 3}
    ours = steps(make(checkpoint, tmp_path, **settings))
    trl = steps(make(checkpoint, tmp_path, DPOTrainer, DPOConfig, **settings))
    assert ours[-1, 0] < ours[0, 0] - 0.02
    torch.testing.assert_close(ours[:, 0], trl[:, 0], rtol=1e-3, atol=0)  # TRL trains the adapters in bfloat16
    torch.testing.assert_close(ours[:, 1], trl[:, 1], rtol=2e-2, atol=0)  # and sums up their gradients in it


ONLINE = {"trainer": MMOnlineDPOTrainer, "cls": MMOnlineDPOConfig, "offline_probability": 1.0}


@pytest.mark.parametrize("settings", [{}, ONLINE], ids=["dpo", "online-dpo"])
def test_the_projector_trains_beside_quantized_layers(settings, checkpoint, tmp_path):
    trainer = make(checkpoint, tmp_path, projector_learning_rate=1e-2, **settings)
    steps(trainer)
    trainer.save_model()
    saved = load_file(tmp_path / "adapter_model.safetensors")
    before = AutoModelForImageTextToText.from_pretrained(checkpoint).base_model.multi_modal_projector
    trained = {name.rpartition("projector.")[2]: value for name, value in saved.items() if "projector" in name}
    assert trained.keys() == dict(before.named_parameters()).keys()
    assert all((value - before.get_parameter(name)).abs().max() > 1e-3 for name, value in trained.items())
    model = trainer.model.get_base_model()
    assert model.lm_head.weight.is_floating_point()
    assert not model.base_model.language_model.layers[0].mlp.up_proj.weight.is_floating_point()


def test_pairs_are_made_by_the_quantized_policy(checkpoint, tmp_path):
    bdhs = BDHSDataGenerator(BDHSConfig(similarity="lexical", max_sentence_tokens=5, max_answer_tokens=5))
    trainer = make(checkpoint, tmp_path, callbacks=[bdhs], max_steps=2)
    assert torch.isfinite(steps(trainer)).all()
    assert trainer.state.log_history[0]["bdhs/attempts"] >= 1


def test_gradients_pass_4_bit_layers_after_the_model_was_asked(checkpoint, tmp_path):
    """Elsewhere than on CPUs with AVX-512 this cannot fail: there bitsandbytes packs weights when it first may."""
    runs = [make(checkpoint, tmp_path, lora={"target_modules": LANGUAGE_MODEL}, max_steps=2) for _ in range(2)]
    runs[0].model.eval()
    inputs = runs[0]._prepare_inputs(next(iter(runs[0].get_train_dataloader())))
    with torch.no_grad():
        runs[0].compute_loss(runs[0].model, inputs)
    first, second = map(steps, runs)
    assert torch.equal(first, second) and (first[:, 1] > 0).all()


def test_a_resumed_run_goes_on_as_if_it_had_not_stopped(checkpoint, tmp_path):
    settings = {"save_strategy": "steps", "save_steps": 2, "projector_learning_rate": 1e-3}
    whole = steps(make(checkpoint, tmp_path, **settings))
    weights = (tmp_path / "checkpoint-4" / "adapter_model.safetensors").read_bytes()
    resumed = steps(make(checkpoint, tmp_path, **settings), resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert torch.equal(resumed, whole)
    assert (tmp_path / "checkpoint-4" / "adapter_model.safetensors").read_bytes() == weights


def test_a_projector_that_is_quantized_already_is_refused(checkpoint, tmp_path):
    quantized = {"quantization_config": BitsAndBytesConfig(**FOUR_BIT), "dtype": torch.float32}
    model = AutoModelForImageTextToText.from_pretrained(checkpoint, **quantized)
    model.save_pretrained(tmp_path / "quantized")
    message = (
        r"trains multi_modal_projector as a whole, .*linear_1 is quantized.*'lm_head', '\.\*multi_modal_projector"
    )
    for given in (model, str(tmp_path / "quantized")):
        with pytest.raises(ValueError, match=message):
            make(given, tmp_path, quantization=None, projector_learning_rate=1e-3)


@pytest.mark.parametrize(
    ("skipped", "saved", "expected"),
    [
        (None, ["connector"], ["lm_head", ".*connector"]),
        (["vision_tower"], ["connector", "norm"], ["vision_tower", ".*connector", ".*norm"]),
        (None, None, None),
    ],
)
def test_what_is_trained_as_a_whole_is_named(skipped, saved, expected):
    given = BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=skipped)
    settings = skip_quantizing_saved_modules(
        {"quantization_config": given, "dtype": "auto"}, LoraConfig(modules_to_save=saved)
    )
    assert settings["quantization_config"].llm_int8_skip_modules == expected and settings["dtype"] == "auto"
    assert given.llm_int8_skip_modules == skipped


def test_settings_may_be_a_dict():
    given = {"quantization_config": {"load_in_4bit": True}}
    settings = skip_quantizing_saved_modules(given, LoraConfig(modules_to_save=["connector"]))
    assert settings["quantization_config"].llm_int8_skip_modules == ["lm_head", ".*connector"]
    assert settings["quantization_config"].load_in_4bit and given == {"quantization_config": {"load_in_4bit": True}}


@pytest.mark.parametrize("settings", [None, {}, {"quantization_config": None}])
def test_without_quantization_nothing_changes(settings):
    assert skip_quantizing_saved_modules(settings, LoraConfig(modules_to_save=["connector"])) == settings
    assert skip_quantizing_saved_modules(settings, None) == settings
