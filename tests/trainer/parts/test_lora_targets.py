import logging

import pytest
import torch
from peft import LoraConfig, PrefixTuningConfig, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from support.families import FAMILIES, family
from support.tiny import tiny_model

from trl_mm import MMDPOConfig
from trl_mm.trainer.parts.lora_targets import with_targets
from trl_mm.trainer.parts.model_parts import projector_modules


def arguments(**settings):
    return MMDPOConfig("unused", bf16=False, use_cpu=True, **settings)


def adapted(model, config):
    """Names of the modules that PEFT adapts."""
    model = get_peft_model(family(model)[0].__class__(family(model)[0].config), config)
    prefix = "base_model.model."
    return {name.removeprefix(prefix) for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)}


@pytest.mark.parametrize("targets", [None, "all-linear", "ALL-LINEAR"])
@pytest.mark.parametrize("name", FAMILIES)
def test_by_default_the_linear_layers_of_the_language_model_are_adapted(name, targets):
    model, _ = family(name)
    given = LoraConfig(r=2, target_modules=targets)
    backbone = model.base_model
    language = getattr(backbone, "language_model", None) or backbone.text_model
    linear = {id(module) for module in language.modules() if isinstance(module, torch.nn.Linear)}
    wanted = {name for name, module in model.named_modules() if id(module) in linear}
    assert len(wanted) == 14 and adapted(name, with_targets(given, model, arguments())) == wanted
    assert given.target_modules == targets  # a config of the user is left alone


@pytest.mark.parametrize("name", FAMILIES)
def test_the_projector_is_saved_when_it_has_a_learning_rate(name):
    model, _ = family(name)
    config = with_targets(LoraConfig(), model, arguments(projector_learning_rate=1e-3))
    assert config.modules_to_save == projector_modules(model)
    again = with_targets(config, model, arguments(projector_learning_rate=1e-3))
    assert again.modules_to_save == config.modules_to_save


def test_settings_of_the_user_are_kept():
    model = tiny_model()
    given = LoraConfig(
        r=3, target_modules=r".*language_model.*q_proj", modules_to_save=["lm_head"], exclude_modules="x"
    )
    assert with_targets(given, model, arguments()).to_dict() == given.to_dict()
    config = with_targets(given, model, arguments(projector_learning_rate=1e-3))
    assert config.modules_to_save == ["lm_head", "multi_modal_projector"]
    assert config.to_dict() == {**given.to_dict(), "modules_to_save": config.modules_to_save}
    excluding = LoraConfig(exclude_modules=["q_proj"])
    assert len(adapted("llava_next", with_targets(excluding, model, arguments()))) == 12


def test_a_projector_with_adapters_is_not_saved_as_well():
    config = LoraConfig(target_modules=["linear_1", "q_proj"])
    assert with_targets(config, tiny_model(), arguments(projector_learning_rate=1e-3)).modules_to_save is None


def test_other_adapters_and_no_adapter_are_left_alone():
    assert with_targets(None, tiny_model(), arguments()) is None
    config = PrefixTuningConfig(num_virtual_tokens=2)
    assert with_targets(config, tiny_model(), arguments()) is config
    parameters = LoraConfig(target_parameters=["q_proj.weight"])
    assert with_targets(parameters, tiny_model(), arguments()).target_modules is None


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (
            ["query"],
            r"\(query\) match no module of this `llava_next` model.*Leave it out.*such as down_proj, gate_proj",
        ),
        (r".*text_model.*q_proj", r"\(.\*text_model.\*q_proj\) match no module"),
        ([], r"\(\) match no module"),
    ],
)
def test_targets_that_match_nothing_are_refused(targets, message):
    with pytest.raises(ValueError, match=message):
        with_targets(LoraConfig(target_modules=targets), tiny_model(), arguments())


def test_all_modules_excluded_are_refused():
    with pytest.raises(ValueError, match=r"with `exclude_modules` \(\.\*\)"):
        with_targets(LoraConfig(exclude_modules=".*"), tiny_model(), arguments())


def test_names_of_two_parts_and_of_none_are_warned_of(caplog):
    model = tiny_model()
    config = with_targets(LoraConfig(target_modules=["q_proj", "query"]), model, arguments())
    assert config.target_modules == {"q_proj", "query"}
    nothing, spread = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "names 'query', which adapts nothing" in nothing
    assert "(q_proj, query) adapt 2 modules outside of the language model, such as model.vision_tower." in spread
    pattern = spread.split("'")[1]
    assert len(adapted("llava_next", LoraConfig(target_modules=pattern))) == 2


@pytest.mark.parametrize("targets", [["fc1"], ["fc1", "up_proj"], ".*q_proj", ["o_proj"], ["linear_1"]])
def test_what_is_meant_is_not_warned_of(targets, caplog):
    with_targets(LoraConfig(target_modules=targets), tiny_model(), arguments())
    assert not caplog.records


@pytest.mark.parametrize(
    ("targets", "settings", "message"),
    [
        (["q_proj"], {"freeze_vision_tower": True}, r"`freeze_vision_tower=True`, but .*or write '.\*language_model"),
        (".*q_proj", {"freeze_vision_tower": True}, "`freeze_vision_tower=True`, but .* such as model.vision_tower."),
        (["linear_1"], {"freeze_projector": True}, "`freeze_projector=True`, but .* such as model.multi_modal_proj"),
    ],
)
def test_a_frozen_part_is_not_adapted(targets, settings, message):
    with pytest.raises(ValueError, match=message):
        with_targets(LoraConfig(target_modules=targets), tiny_model(), arguments(**settings))
    with_targets(LoraConfig(), tiny_model(), arguments(**settings))


def test_a_model_with_an_unknown_language_model_needs_targets():
    model = torch.nn.Module()
    model.base_model, model.config = torch.nn.Linear(2, 2), type("Config", (), {"model_type": "kosmos-2"})
    with pytest.raises(ValueError, match="not known for `kosmos-2` models. Name the layers"):
        with_targets(LoraConfig(), model, arguments())
    config = LoraConfig(target_modules=["base_model"])
    assert with_targets(config, model, arguments()) is config
