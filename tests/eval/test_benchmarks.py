"""What holds of every benchmark."""

from dataclasses import MISSING, fields

import pytest

from trl_mm.eval.benchmark import need_annotations
from trl_mm.eval.benchmarks import ALIASES, BENCHMARKS, find_benchmark
from trl_mm.scripts.eval import AskingArguments, EvalArguments
from trl_mm.scripts.recipe_parser import documented_settings


def test_settings_have_names_of_their_own():
    names = [field.name for kind in (EvalArguments, AskingArguments, *BENCHMARKS.values()) for field in fields(kind)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", BENCHMARKS)
def test_settings_can_be_left_out_and_have_a_help(name):
    for field in fields(BENCHMARKS[name]):
        assert (field.default, field.default_factory) != (MISSING, MISSING), field.name
        assert len(documented_settings(BENCHMARKS[name])[field.name]) > 10


def test_missing_annotations_are_asked_for():
    assert need_annotations({}) == {}
    with pytest.raises(ValueError, match="`annotations` is missing"):
        need_annotations(None)


@pytest.mark.parametrize("name", ALIASES)
def test_other_spellings_name_a_benchmark(name):
    assert name.isalnum() and name == name.lower()
    assert find_benchmark(name.upper()) == ALIASES[name] in BENCHMARKS
