import logging

import pytest
import torch

from trl_mm import MMDPOConfig, MMOnlineDPOConfig
from trl_mm.trainer import precision


@pytest.fixture
def machine(monkeypatch):
    """Function that gives this machine another device."""

    def build(gpu, bf16, natively):
        monkeypatch.setattr(torch.accelerator, "is_available", lambda: gpu)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: natively)
        monkeypatch.setattr(precision, "is_torch_bf16_gpu_available", lambda: bf16)

    return build


class Settings:
    def __init__(self, bf16=None, fp16=False, use_cpu=False):
        self.bf16, self.fp16, self.use_cpu = bf16, fp16, use_cpu


@pytest.mark.parametrize("config", [MMDPOConfig, MMOnlineDPOConfig])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, r"`bf16`, which is on by default, needs a GPU, and torch .* sees none. Pass `--bf16 False`"),
        ({"bf16": True}, "Pass `--bf16 False`"),
        ({"fp16": True}, "`fp16` needs a GPU.* Pass `--fp16 False --bf16 False`"),
    ],
)
def test_without_a_gpu_the_cure_is_named(config, settings, message, machine, tmp_path):
    machine(gpu=False, bf16=False, natively=False)
    with pytest.raises(ValueError, match=message):
        config(str(tmp_path), **settings)


@pytest.mark.parametrize("settings", [{"bf16": False}, {"use_cpu": True}])
def test_what_a_cpu_does_is_taken(settings, machine):
    machine(gpu=False, bf16=False, natively=False)
    precision.check_precision(Settings(**settings))


def test_a_gpu_without_bfloat16_is_named_with_the_cure(machine):
    machine(gpu=True, bf16=False, natively=False)
    with pytest.raises(ValueError, match="not for Tesla T4. `--bf16 False --fp16 True` trains in float16"):
        precision.check_precision(Settings())
    precision.check_precision(Settings(fp16=True))


@pytest.mark.parametrize("natively", [True, False])
def test_a_gpu_that_imitates_bfloat16_is_warned_of(natively, machine, caplog):
    machine(gpu=True, bf16=True, natively=natively)
    with caplog.at_level(logging.WARNING):
        precision.check_precision(Settings())
    assert ("Tesla T4 has no bfloat16 and imitates it" in caplog.text) != natively
