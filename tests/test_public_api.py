import inspect
import subprocess
import sys

import pytest

import trl_mm


NAMES = [
    "BDHSConfig",
    "BDHSDataGenerator",
    "BDHSSampler",
    "BenchmarkCallback",
    "MMDPOConfig",
    "MMDPOTrainer",
    "MMOnlineDPOConfig",
    "MMOnlineDPOTrainer",
    "MMPPOConfig",
    "MMPPOTrainer",
    "MMRLOOConfig",
    "MMRLOOTrainer",
    "MMRewardConfig",
    "MMRewardTrainer",
    "PairwiseJudge",
    "PairwiseVLMJudge",
    "RemoteJudge",
    "RewardJudge",
    "RewardModel",
    "load_preferences",
    "push_preferences",
]


def test_the_public_names_are_these():
    assert sorted(trl_mm.__all__) == NAMES
    assert {*NAMES, "__version__"} <= set(dir(trl_mm))


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_is_ours_and_documented(name):
    value = getattr(trl_mm, name)
    assert value.__name__ == name and value.__module__.startswith("trl_mm.")
    assert inspect.getdoc(value)


def public_functions(cls):
    """The constructor and the public methods of a class and its bases that are ours and not overrides of others'."""
    ours = [base for base in cls.__mro__ if base.__module__.startswith("trl_mm.")]
    others = {name for base in cls.__mro__ if base not in ours for name in vars(base)} - {"__init__"}
    for base in ours:
        for name, value in vars(base).items():
            value = value.fget if isinstance(value, property) else value
            public = name in ("__init__", "__call__") or name[0] != "_"
            if inspect.isfunction(value) and value.__module__.startswith("trl_mm.") and public and name not in others:
                yield value


def untyped(function):
    """What of a signature has no type."""
    signature = inspect.signature(function)
    found = [item.name for item in signature.parameters.values() if item.annotation is item.empty]
    returns = function.__name__ == "__init__" or signature.return_annotation is not signature.empty
    return [*(name for name in found if name != "self"), *([] if returns else ["return"])]


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_is_typed(name):
    value = getattr(trl_mm, name)
    functions = [value] if inspect.isfunction(value) else list(public_functions(value))
    assert functions
    assert {function.__qualname__: untyped(function) for function in functions if untyped(function)} == {}


def test_version_is_the_installed_one():
    from importlib.metadata import version

    assert trl_mm.__version__ == version("trl-mm")


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'trl_mm' has no attribute 'MMDPOTrainr'"):
        _ = trl_mm.MMDPOTrainr


def test_import_is_lazy():
    code = "import sys, trl_mm; print({'torch', 'transformers', 'trl', 'datasets'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
