import os
import re
from importlib.metadata import metadata, version
from types import SimpleNamespace

import pytest
import torch

from trl_mm.cli.main import main
from trl_mm.scripts import env


def test_versions_devices_and_extras_are_shown(capsys, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert main(["env"]) == 0
    out = capsys.readouterr().out
    shown = dict(re.findall(r"^- ([^:]+): (.*)$", out, re.MULTILINE))
    assert len(shown) == len(out.splitlines())
    for package in ("trl-mm", "trl", "transformers", "accelerate", "peft", "datasets", "torch"):
        assert shown[package] == version(package)
    assert re.search(r"\bbdhs (yes|no), .*eval (yes|no)", shown["extras"])
    assert not re.search(r"\b(dev|test)\b", shown["extras"])
    assert "CPU only" in shown["devices"] or torch.accelerator.is_available()
    for private in ("hf_secret", os.path.expanduser("~") + "/", os.getcwd()):
        assert private not in out


def test_what_is_not_installed_is_said(monkeypatch):
    monkeypatch.setattr(env, "PACKAGES", ("torch", "no-such-package-of-ours"))
    assert env.environment()["no-such-package-of-ours"] == "not installed"
    assert env.installed_extras("no-such-package-of-ours") == {}


@pytest.mark.parametrize("missing", ["pip", "two", None])
def test_an_extra_is_there_with_all_that_it_asks_for(monkeypatch, missing):
    """In the version asked for, and with the extras that it names."""
    lines = ["one>=2", 'two>=3; extra == "a"', 'ours[a]; extra == "b"', 'pip; extra == "b"', 'one; extra == "test"']
    found = {"ours": "1", "one": "2.0", "two": "3.1", "pip": "1"}
    monkeypatch.setattr(env, "requires", lambda package: lines)
    monkeypatch.setattr(env, "extras_of", lambda package: ["a", "b"])
    monkeypatch.setattr(env, "installed_version", lambda name: None if name == missing else found[name])
    assert env.installed_extras("ours") == {"a": missing != "two", "b": missing is None}
    monkeypatch.setattr(env, "installed_version", lambda name: "2.9")
    assert env.installed_extras("ours") == {"a": False, "b": False}


def test_extras_are_those_of_the_package():
    of_package = set(metadata("trl-mm").get_all("Provides-Extra"))
    assert {"bdhs", "eval"} <= set(env.extras_of("trl-mm")) < of_package


def test_gpus_are_named_with_their_memory(monkeypatch):
    gpu = SimpleNamespace(name="NVIDIA H100", total_memory=80 * 2**30)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: gpu)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert env.devices() == "NVIDIA H100 (80 GiB), NVIDIA H100 (80 GiB); CUDA 13.0"
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("mps"))
    assert env.devices() == "2 of mps"
