import pytest
from support.families import FAMILIES, family
from support.tiny import tiny_model, tiny_processor

from trl_mm import MMDPOConfig
from trl_mm.trainer.parts.model_parts import (
    check_parts_are_known,
    meta_model,
    part_of,
    projector_modules,
)
from trl_mm.trainer.prefix_sharing.image_features import vision_part


def weights(model, part):
    return {name for name, _ in model.named_parameters() if part_of(name, model.config.model_type) == part}


@pytest.mark.parametrize("name", FAMILIES)
def test_each_weight_belongs_to_a_part(name):
    model, _ = family(name)
    language, projector, tower = (weights(model, part) for part in ("language model", "projector", "vision tower"))
    assert all((language, projector, tower))
    assert {f"model.{name}" for name in vision_part(model.base_model)} == projector | tower
    assert len(language) + len(projector) + len(tower) == len(list(model.parameters()))
    # The tower is the first to see the pixels, the projector the last before the language model
    assert any("embed" in name for name in tower) and not any("embed" in name for name in projector)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_projectors_modules_hold_its_weights(name):
    model, _ = family(name)
    held = [
        f"model.{module}.{weight}"
        for module in projector_modules(model)
        for weight, _ in model.base_model.get_submodule(module).named_parameters()
    ]
    assert len(held) == len(set(held)) and set(held) == weights(model, "projector") - {"model.image_newline"}


def test_another_model_type_is_named_with_the_known_ones():
    assert part_of("model.visual.merger.weight", "kosmos-2") == "vision part"
    assert part_of("model.language_model.layers.0.mlp.up_proj", "kosmos-2") == "language model"
    with pytest.raises(ValueError, match="`freeze_projector` needs .* of `kosmos-2` .*known: llava, .*Leave it out"):
        check_parts_are_known("kosmos-2", "freeze_projector")


def test_a_model_without_weights_has_the_names_of_the_real_one(tmp_path):
    model = tiny_model()
    model.save_pretrained(tmp_path)
    tiny_processor().save_pretrained(tmp_path)
    made = meta_model(str(tmp_path), MMDPOConfig(str(tmp_path), bf16=False, use_cpu=True))
    assert [name for name, _ in made.named_modules()] == [name for name, _ in model.named_modules()]
    assert all(parameter.is_meta for parameter in made.parameters())
