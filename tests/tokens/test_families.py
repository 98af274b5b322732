"""The table of families beside the tiny models of the tests, which have the same names."""

from contextlib import nullcontext
from copy import copy
from types import SimpleNamespace

import pytest
from support import families

from trl_mm.tokens.families import FAMILIES, UNKNOWN, family_of
from trl_mm.tokens.image_tokens import check_processor
from trl_mm.trainer.prefix_sharing.shared_forward import INPUTS


HIDING = ["llava", "vipllava", "llava_next"]  # as in `tests/generation/test_prefill.py`, which compares with masking


def test_every_family_has_a_tiny_model_and_the_reverse():
    assert FAMILIES.keys() == families.FAMILIES.keys()


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_is_found_by_its_models_configuration(name):
    assert family_of(families.family(name)[0].config) is FAMILIES[name]


def test_nothing_is_supposed_of_another_model_type():
    assert family_of(SimpleNamespace(model_type="kosmos-2")) is UNKNOWN
    assert not any(vars(UNKNOWN).values())


@pytest.mark.parametrize("name", FAMILIES)
def test_settings_that_a_processor_repeats_are_those_of_the_model(name):
    model, processor = families.family(name)
    check_processor(processor, model.config)
    other = copy(processor)
    other.patch_size = 7
    refused = pytest.raises(ValueError, match="`patch_size` of the processor is 7, but the model makes .* for 14")
    with refused if FAMILIES[name].repeats_settings else nullcontext():
        check_processor(other, model.config)


def test_the_families_that_hide_image_tokens_are_those_that_are_tested():
    assert {name for name, family in FAMILIES.items() if family.hides_image_tokens} == {*HIDING}


def test_what_a_family_names_is_known():
    named = {family.prefix_inputs for family in FAMILIES.values()}
    assert named - {None} == INPUTS.keys(), "without one a family trains in the layout of TRL"
