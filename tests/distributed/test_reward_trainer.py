"""Two processes train a reward model as one does, under DDP."""

import pytest
import torch
from safetensors.torch import load_file
from support.files import save_rows
from support.launching import accelerate, run_together
from support.rows import tiny_pairs

from trl_mm.scripts.reward import main


pytestmark = pytest.mark.distributed


@pytest.mark.parametrize("adapters", [[], ["--use_peft", "true", "--lora_r", "2"]], ids=["full", "lora"])
def test_two_processes_end_as_one(checkpoint, tmp_path, adapters):
    rows = save_rows(tmp_path / "train.jsonl", tiny_pairs(8))
    flags = [
        *("--model_name_or_path", checkpoint, "--dataset_name", str(rows), "--max_steps", "2", "--bf16", "False"),
        *("--use_cpu", "True", "--report_to", "none", "--save_strategy", "no", "--dtype", "float32"),
        *("--optim", "sgd", "--learning_rate", "0.1", *adapters),
    ]
    main([*flags, "--per_device_train_batch_size", "4", "--output_dir", str(tmp_path / "one")])
    words = [*flags, "--per_device_train_batch_size", "2", "--output_dir", str(tmp_path / "two")]
    ((status, output),) = run_together([*accelerate("ddp"), "--module", "trl_mm.scripts.reward", *words], seconds=200)
    assert status == 0, output
    name = "adapter_model.safetensors" if adapters else "model.safetensors"
    one, two = (load_file(tmp_path / folder / name) for folder in ("one", "two"))
    assert one.keys() == two.keys()
    for key, weight in one.items():
        torch.testing.assert_close(two[key], weight, atol=1e-5, rtol=1e-4)
