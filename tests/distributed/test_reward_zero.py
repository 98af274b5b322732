"""Two processes train a reward model as one does, under ZeRO-2 and ZeRO-3, and resume as one does."""

import json
import sys
from pathlib import Path

import pytest
import torch
from distributed.rewards import train_reward
from safetensors.torch import load_file
from support.launching import accelerate, run_together
from support.rewarding import save_reward_model
from transformers import AutoModelForSequenceClassification


pytestmark = [
    pytest.mark.distributed,
    pytest.mark.skipif(sys.platform != "linux", reason="the tests install DeepSpeed on Linux only"),
]
SECONDS = 120
# Steps of two rows: images on one process, on the other one, on neither, on both
MIXED = [1, 0, 0, 1, 0, 0, 1, 2]
CASES = {
    "full": {"num_images": MIXED, "save_strategy": "steps", "save_steps": 2},
    "lora": {"num_images": MIXED, "lora": r".*language_model.*(q|v)_proj"},
}


@pytest.fixture(scope="module")
def reward_checkpoint(checkpoint, tmp_path_factory):
    return save_reward_model(tmp_path_factory.mktemp("reward"), checkpoint)


def in_folder(cases, checkpoint, folder):
    return {name: {"checkpoint": checkpoint, "folder": str(folder / name), **case} for name, case in cases.items()}


@pytest.fixture(scope="module")
def alone(reward_checkpoint, tmp_path_factory):
    """Folder of the cases that this process has trained, and what each one logged."""
    folder = tmp_path_factory.mktemp("alone")
    cases = in_folder(CASES, reward_checkpoint, folder)
    return folder, {name: train_reward(**case) for name, case in cases.items()}


def weights(folder, lora):
    """What was saved. Under ZeRO-3 transformers 5.23 writes other names, which it can read, into the file."""
    if lora:
        return load_file(folder / "adapter_model.safetensors")
    return AutoModelForSequenceClassification.from_pretrained(folder).state_dict()


@pytest.mark.parametrize("strategy", [pytest.param("zero2", marks=pytest.mark.slow), "zero3"])
def test_two_processes_train_as_one(strategy, reward_checkpoint, alone, tmp_path):
    cases = in_folder(CASES, reward_checkpoint, tmp_path)
    resumed = {**cases["full"], "folder": str(tmp_path / "resumed")}
    resumed["resume_from_checkpoint"] = str(tmp_path / "full" / "checkpoint-2")
    (tmp_path / "cases.json").write_text(json.dumps({**cases, "resumed": resumed}))
    script = [str(Path(__file__).with_name("rewards.py")), str(tmp_path), str(SECONDS)]
    ((status, output),) = run_together([*accelerate(strategy), *script], seconds=SECONDS + 60)
    assert status == 0, output
    results = json.loads((tmp_path / "results.json").read_text())
    folder, expected = alone
    for name, case in CASES.items():
        lora = "lora" in case
        for key, wanted in expected[name].items():
            assert results[name][key] == pytest.approx(wanted, rel=1e-4, abs=1e-5), (name, key)
        assert results[name]["pairs"] == 5
        got, wanted = weights(tmp_path / name, lora), weights(folder / name, lora)
        assert got.keys() == wanted.keys() and any("score" in key for key in got)
        for key, weight in wanted.items():
            torch.testing.assert_close(got[key], weight, rtol=1e-4, atol=1e-5)
    before = weights(reward_checkpoint, False)
    moved = {key: (weight - before[key]).abs().max() for key, weight in weights(tmp_path / "full", False).items()}
    assert moved["score.weight"] > 1e-4 and max(moved.values()) > 1e-3
    for key, weight in weights(tmp_path / "full", False).items():
        torch.testing.assert_close(weights(tmp_path / "resumed", False)[key], weight, rtol=1e-5, atol=1e-6)
