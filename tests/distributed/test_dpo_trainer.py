"""Two processes train as one does: DDP, FSDP2, ZeRO-1, 2 and 3 on CPUs, through the recipes for `accelerate launch`.

What is unusual in it: a start costs 20 seconds, so each strategy starts once and trains several cases in a row.
"""

import functools
import json
import math
import sys
from pathlib import Path

import pytest
import torch
from distributed.online import train_online
from distributed.train import train
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import load_file
from support.launching import accelerate, free_port, run_together
from transformers import AutoProcessor, LlavaNextForConditionalGeneration


pytestmark = pytest.mark.distributed

deepspeed = pytest.mark.skipif(sys.platform != "linux", reason="the tests install DeepSpeed on Linux only")
SECONDS = 200  # for all cases of a start, imports apart; then it ends with a traceback of where it hangs
# Steps of two rows: images on one process, on the other one, on neither, on both
MIXED = [1, 0, 0, 1, 0, 0, 1, 2]
LANGUAGE_MODEL = r".*language_model.*(q|v)_proj"
CASES = {
    "full": {"num_images": MIXED, "save_strategy": "epoch"},
    "lora": {
        "num_images": MIXED,
        "lora": LANGUAGE_MODEL,
        "save_strategy": "epoch",
    },
    "images": {"num_images": [1, 2, 1, 1], "gradient_checkpointing": False},
    "projector beside lora": {"num_images": MIXED, "lora": "all-linear", "projector_learning_rate": 5e-2},
    "projector alone": {
        "num_images": MIXED,
        "learning_rate": 0.0,
        "projector_learning_rate": 5e-2,
        "freeze_vision_tower": True,
    },
    "trls layout": {"num_images": MIXED, "prefix_sharing": False},
    "lora everywhere": {"num_images": MIXED, "lora": ["q_proj", "v_proj"]},
    "no checkpointing": {"num_images": MIXED, "gradient_checkpointing": False},
    # A step without any image stops the momentum of a vision part on one process, but not of one that is split
    "adam": {
        "num_images": [1, 0, 0, 1, 1, 2, 1, 0],
        "optim": "adamw_torch",
        "learning_rate": 1e-3,
        "adam_epsilon": 1e-3,
    },
    "accumulation": {"num_images": MIXED, "gradient_accumulation_steps": 2},
    "reference before training": {"num_images": MIXED, "precompute_ref_log_probs": True},
    "bdhs online": {"num_images": MIXED, "bdhs": {"online": True}},
    "bdhs before training": {"num_images": MIXED, "bdhs": {"online": False}},
    "bdhs beside stored pairs": {
        "num_images": MIXED,
        "bdhs": {"rejected_weight": 0.3},
        "lora": LANGUAGE_MODEL,
        "gradient_accumulation_steps": 2,
    },
    # An uneven number of questions, and none for one of two processes
    "measured": {"num_images": [0, 1, 1, 0, 1, 0, 0, 1], "measured": [1, 3]},
    "distorted": {"num_images": MIXED, "bdhs": {"mode": "povid", "rejected_weight": 0.3}},
    "distorted, lora": {"num_images": MIXED, "bdhs": {"mode": "povid"}, "lora": LANGUAGE_MODEL},
    "bdhs before training, reference too": {
        "num_images": MIXED,
        "bdhs": {"online": False},
        "precompute_ref_log_probs": True,
        "lora": LANGUAGE_MODEL,
    },
    "bdhs before training beside stored pairs": {
        "num_images": MIXED,
        "bdhs": {"online": False, "rejected_weight": 0.3},
    },
    "lora with reference before training": {
        "num_images": MIXED,
        "lora": LANGUAGE_MODEL,
        "precompute_ref_log_probs": True,
    },
}
# The rows whose answers differ in their reward leave one process with nothing but ties, the other one, both, none
ONLINE = {"num_images": MIXED, "rewarded": [0, 3, 6, 7], "learning_rate": 1e-1, "max_grad_norm": 100.0}
CASES.update(
    {
        "online": {**ONLINE, "offline_probability": 0.5, "seed": 1},
        "online lora": {**ONLINE, "lora": LANGUAGE_MODEL},
        "mixed with stored pairs alone": {**ONLINE, "offline_probability": 1.0, "learning_rate": 1e-2},
        "online accumulation": {**ONLINE, "gradient_accumulation_steps": 2, "gradient_checkpointing": False},
    }
)
FEW = (
    "full",
    "lora",
    "images",
    "projector beside lora",
    "bdhs online",
    "bdhs before training",
    "measured",
    "distorted",
    "online",
    "online lora",
)
MORE = tuple(name for name in CASES if name not in FEW)


def in_folder(cases, checkpoint, folder):
    """Cases as arguments of `train`, each with a folder of its own."""
    made = {}
    for name, case in cases.items():
        made[name] = {"checkpoint": checkpoint, "folder": str(folder / name), **case}
        if case.get("precompute_ref_log_probs"):
            made[name]["ref_log_probs_dir"] = str(folder / name / "reference")
    return made


def launch(strategy, cases, checkpoint, folder):
    """Train all cases in two processes, which end when they hang; `dict` of what each case logged."""
    (folder / "cases.json").write_text(json.dumps(in_folder(cases, checkpoint, folder)))
    script = [str(Path(__file__).with_name("train.py")), str(folder), str(SECONDS)]
    if strategy.endswith("two_nodes"):
        address = ["--main_process_ip", "127.0.0.1", "--main_process_port", str(free_port())]
        nodes = [accelerate(strategy, *address, "--machine_rank", str(rank)) for rank in range(2)]
    else:
        nodes = [accelerate(strategy)]
    for status, output in run_together(*([*node, *script] for node in nodes), seconds=SECONDS + 60):
        assert status == 0, output
    return json.loads((folder / "results.json").read_text())


def weights(folder, lora):
    """What `train` has saved. Under ZeRO-3 transformers 5.23 writes other names, which it can read, into the file."""
    if lora:
        return load_file(folder / "adapter_model.safetensors")
    return LlavaNextForConditionalGeneration.from_pretrained(folder).state_dict()


@pytest.fixture(scope="module")
def alone(checkpoint, tmp_path_factory):
    """Function that trains cases in this process, once for all strategies: their folder, and what each one logged."""

    @functools.cache
    def train_alone(names):
        folder = tmp_path_factory.mktemp("alone")
        cases = in_folder({name: CASES[name] for name in names}, checkpoint, folder)
        return folder, {name: (train_online if "rewarded" in case else train)(**case) for name, case in cases.items()}

    return train_alone


@pytest.mark.parametrize("names", [FEW, pytest.param(MORE, marks=pytest.mark.slow)], ids=["few", "more"])
@pytest.mark.parametrize(
    "strategy",
    [
        "ddp",
        "fsdp2",
        pytest.param("zero1", marks=[deepspeed, pytest.mark.slow]),
        pytest.param("zero2", marks=deepspeed),
        pytest.param("zero3", marks=deepspeed),
        pytest.param("zero3_offload", marks=[deepspeed, pytest.mark.slow]),
        pytest.param("zero3_two_nodes", marks=[deepspeed, pytest.mark.slow]),
    ],
)
def test_two_processes_train_as_one(strategy, names, checkpoint, alone, tmp_path):
    if strategy == "fsdp2":  # under which trainers refuse to sample
        names = tuple(name for name in names if not samples(CASES[name]))
    results = launch(strategy, {name: CASES[name] for name in names}, checkpoint, tmp_path)
    folder, expected = alone(names)
    for name in names:
        for key, values in expected[name].items():
            wanted = values if key in ("pairs", "answers") else pytest.approx(values, rel=1e-5, abs=1e-5)
            assert results[name][key] == wanted, (name, key)
        lora = "lora" in CASES[name]
        got, wanted = weights(tmp_path / name, lora), weights(folder / name, lora)
        before = {} if lora else weights(checkpoint, lora)
        assert max((value - before.get(key, 0)).abs().max() for key, value in wanted.items()) > 1e-3, name
        assert_equal(got, wanted)
        if CASES[name].get("save_strategy") == "epoch":
            assert_loads(tmp_path / name / "checkpoint-4", checkpoint if lora else None, got)


@pytest.mark.slow
def test_half_precision_is_for_weights_and_activations_only_under_fsdp(checkpoint, tmp_path):
    """In the first step both models are the same, so that the loss is log 2, which bfloat16 cannot tell from 0.691."""
    case = {"num_images": MIXED, "bf16": True, "max_steps": 1}
    results = launch("fsdp2", {"full": case, "lora": {**case, "lora": LANGUAGE_MODEL}}, checkpoint, tmp_path)
    for name, logged in results.items():
        assert logged["loss"] == pytest.approx([math.log(2)], abs=1e-6), name
        assert logged["logps/chosen"] != [round(logged["logps/chosen"][0] * 2) / 2]


def samples(case):
    makes_pairs = "bdhs" in case and case["bdhs"].get("mode") != "povid"
    return makes_pairs or "measured" in case or ("rewarded" in case and case.get("offline_probability") != 1)


def assert_equal(got, wanted, **tolerance):
    assert got.keys() == wanted.keys()
    for key, value in wanted.items():
        torch.testing.assert_close(got[key], value, **(tolerance or {"rtol": 1e-5, "atol": 1e-6}))


def assert_loads(folder, base, wanted):
    """A checkpoint of the last step is what was saved at the end, for transformers or PEFT, and put together."""
    exact = {"rtol": 0, "atol": 0}
    assert type(AutoProcessor.from_pretrained(folder)).__name__ == "LlavaNextProcessor"
    if base is None:
        assert_equal(weights(folder, False), wanted, **exact)
    else:
        model = PeftModel.from_pretrained(LlavaNextForConditionalGeneration.from_pretrained(base), folder)
        assert_equal(get_peft_model_state_dict(model), wanted, **exact)
    if base is None and (folder / "zero_to_fp32.py").exists():
        from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

        # It leaves out what two names share
        whole = get_fp32_state_dict_from_zero_checkpoint(str(folder))
        assert_equal({key: whole[key] for key in wanted}, wanted, **exact)


def test_the_online_cases_are_uneven(alone):
    """In some step a process has no sampled answers, or nothing but ties, or shorter answers than the other."""
    _, results = alone(FEW)
    assert 0.5 in results["online"]["offline_rate"] and 0.5 in results["online"]["judge/tie_rate"]
    assert 1.0 in results["online lora"]["judge/tie_rate"] and 0.0 in results["online lora"]["loss"]
    assert any(length % 1 for name in ("online", "online lora") for length in results[name]["completions/mean_length"])
