"""How many loader workers there are where nobody has said it."""

import shutil
from collections import namedtuple

import pytest
import torch
from support.tiny import TRAINING

from trl_mm import MMDPOConfig
from trl_mm.trainer import loading_config
from trl_mm.trainer.reward_config import MMRewardConfig


Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def machine(monkeypatch):
    """Make this machine one with so many cores, GPUs, training processes and bytes of shared memory."""

    def pretend(cores=16, gpu=True, processes=1, shared_memory=2**34):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
        monkeypatch.setattr(loading_config.os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
        monkeypatch.setattr(loading_config.os.path, "isdir", lambda _: True)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(shared_memory, 0, shared_memory))
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))

    return pretend


@pytest.mark.parametrize(
    ("settings", "workers"),
    [
        ({}, 2),
        ({"gpu": False}, 0),
        ({"processes": 8}, 1),
        ({"processes": 4}, 2),
        ({"cores": 1}, 1),
        ({"cores": 2}, 1),
        ({"shared_memory": 2**26}, 0),
    ],
)
def test_workers_follow_from_the_machine(machine, settings, workers):
    machine(**settings)
    assert loading_config.default_workers(use_cpu=False) == workers


def test_a_gpu_that_is_not_used_counts_as_none(machine):
    machine()
    assert loading_config.default_workers(use_cpu=True) == 0


@pytest.mark.parametrize("cls", [MMDPOConfig, MMRewardConfig])
def test_a_number_that_was_set_is_kept(machine, tmp_path, cls):
    machine(gpu=False)
    assert cls(str(tmp_path), **TRAINING).dataloader_num_workers == 0
    assert cls(str(tmp_path), dataloader_num_workers=3, **TRAINING).dataloader_num_workers == 3


def test_little_shared_memory_is_said_with_the_cure(machine, caplog):
    machine(shared_memory=2**26)
    with caplog.at_level("INFO", "trl_mm"):
        loading_config.default_workers(use_cpu=False)
    assert "--shm-size" in caplog.text
