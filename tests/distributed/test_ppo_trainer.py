"""Two processes train policy and value model as one does: samples, whitening and weights of tokens are over both."""

import sys

import pytest
import torch
from safetensors.torch import load_file
from support.files import save_rows
from support.launching import accelerate, run_together
from support.rows import tiny_pairs

from trl_mm.scripts.ppo import main


pytestmark = pytest.mark.distributed

SECONDS = 200
deepspeed = pytest.mark.skipif(sys.platform != "linux", reason="the tests install DeepSpeed on Linux only")


@pytest.mark.timeout(2 * SECONDS)
@pytest.mark.parametrize("strategy", ["ddp", pytest.param("zero2", marks=deepspeed)])
def test_two_processes_end_as_one(checkpoint, tmp_path, strategy):
    rows = save_rows(tmp_path / "train.jsonl", tiny_pairs(8))
    flags = [
        # Two passes over one rollout: in a second one, rounding could decide which token is sampled
        *("--model_name_or_path", checkpoint, "--dataset_name", str(rows), "--max_steps", "2", "--bf16", "False"),
        *("--report_to", "none", "--save_strategy", "no", "--dtype", "float32", "--beta", "0.1", "--optim", "sgd"),
        *("--learning_rate", "0.3", "--use_peft", "true", "--lora_r", "2", "--lora_dropout", "0"),
        *("--num_iterations", "2", "--max_completion_length", "6", "--reward_funcs", '{"length": {"target": 10}}'),
    ]
    cpu = ["--use_cpu", "True"]
    main([*flags, *cpu, "--per_device_train_batch_size", "4", "--output_dir", str(tmp_path / "one")])
    # DeepSpeed finds the CPU by itself, and with `use_cpu` accelerate would not start it
    words = [*flags, *(cpu if strategy == "ddp" else []), "--ddp_backend", "gloo"]
    words += ["--per_device_train_batch_size", "2", "--output_dir", str(tmp_path / "two")]
    script = ["tests/support/killed_training.py", str(SECONDS), "", "ppo"]
    ((status, output),) = run_together([*accelerate(strategy), *script, *words], seconds=SECONDS + 60)
    assert status == 0, output
    for name in ("adapter_model.safetensors", "value/adapter_model.safetensors"):
        one, two = (load_file(tmp_path / folder / name) for folder in ("one", "two"))
        assert one.keys() == two.keys()
        assert any("lora_B" in key and weight.any() for key, weight in one.items())
        for key, weight in one.items():
            torch.testing.assert_close(two[key], weight, atol=1e-5, rtol=1e-4)
