import inspect
import subprocess
import sys

import pytest

import trl_mm


NAMES = [
    "BDHSConfig",
    "BDHSDataGenerator",
    "BDHSSampler",
    "MMDPOConfig",
    "MMDPOTrainer",
    "MMOnlineDPOConfig",
    "MMOnlineDPOTrainer",
    "PairwiseJudge",
    "PairwiseVLMJudge",
    "RemoteJudge",
    "RewardJudge",
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
