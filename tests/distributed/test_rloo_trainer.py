"""Two processes train with RLOO as one does, also where the answers to a prompt are split between them."""

import sys

import pytest
import torch
from safetensors.torch import load_file
from support.files import save_rows
from support.launching import accelerate, run_together
from support.rows import tiny_pairs
from transformers import AutoModelForImageTextToText

from trl_mm.scripts.rloo import main


pytestmark = pytest.mark.distributed

SECONDS = 200
ANSWERS = 8  # of all processes in each of two batches of a step
deepspeed = pytest.mark.skipif(sys.platform != "linux", reason="the tests install DeepSpeed on Linux only")


def weights(folder, of_adapter=False):
    if of_adapter:
        return load_file(folder / "adapter_model.safetensors")
    return AutoModelForImageTextToText.from_pretrained(folder).state_dict()  # which knows the names that ZeRO-3 saves


@pytest.mark.timeout(2 * SECONDS)
@pytest.mark.parametrize(
    ("strategy", "num_generations", "more"),
    [
        ("ddp", 4, ["--normalize_rewards", "true"]),
        ("ddp", 16, ["--use_peft", "true", "--lora_r", "2", "--lora_dropout", "0.0"]),
        pytest.param("zero2", 4, [], marks=[deepspeed, pytest.mark.slow]),
        pytest.param("zero3", 4, [], marks=deepspeed),
    ],
    ids=["ddp", "a group on two processes", "zero2", "zero3"],
)
def test_two_processes_end_as_one(checkpoint, tmp_path, strategy, num_generations, more):
    rows = save_rows(tmp_path / "train.jsonl", tiny_pairs(8))
    flags = [
        # One step: in a second one, rounding could decide which token is sampled
        *("--model_name_or_path", checkpoint, "--dataset_name", str(rows), "--max_steps", "1", "--bf16", "False"),
        *("--report_to", "none", "--save_strategy", "no", "--dtype", "float32", "--beta", "0.4"),
        *("--gradient_accumulation_steps", "2"),
        *("--optim", "sgd", "--learning_rate", "0.1", "--max_completion_length", "6", "--disable_tqdm", "true"),
        *("--num_generations", str(num_generations), "--reward_funcs", '{"length": {"target": 20}}', *more),
    ]
    one = ["--per_device_train_batch_size", str(ANSWERS), "--output_dir", str(tmp_path / "one"), "--use_cpu", "True"]
    main([*flags, *one])
    two = ["--per_device_train_batch_size", str(ANSWERS // 2), "--output_dir", str(tmp_path / "two")]
    # DeepSpeed finds the CPU by itself, and with `use_cpu` accelerate would not start it
    two += ["--ddp_backend", "gloo", *([] if strategy.startswith("zero") else ["--use_cpu", "True"])]
    script = ["tests/support/killed_training.py", str(SECONDS), "", "rloo"]
    ((status, output),) = run_together([*accelerate(strategy), *script, *flags, *two], seconds=SECONDS + 60)
    assert status == 0, output
    expected, found = (weights(tmp_path / folder, "--use_peft" in more) for folder in ("one", "two"))
    assert expected.keys() == found.keys()
    before = {} if "--use_peft" in more else weights(checkpoint)
    for key, weight in expected.items():
        torch.testing.assert_close(found[key], weight, atol=1e-5, rtol=1e-4)
    grown = [key for key, weight in expected.items() if key.endswith("lora_B.weight") and weight.any()]
    assert grown or any(not torch.equal(before[key], weight) for key, weight in expected.items())
