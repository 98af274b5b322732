"""Two processes that are killed while they save go on from the checkpoint before: DDP, FSDP2 and ZeRO on CPUs."""

import json
import sys

import pytest
import torch
from support.files import save_rows
from support.launching import accelerate, run_together
from support.rows import said
from support.tiny import save_tiny, tiny_row
from transformers import LlavaNextForConditionalGeneration

from trl_mm.trainer.checkpoints import complete_checkpoints


pytestmark = [pytest.mark.distributed, pytest.mark.slow]

SECONDS = 200  # for a start; then it ends with a traceback of where it hangs
FLAGS = (
    "--max_steps 6 --save_strategy steps --save_steps 2 --save_total_limit 1 --per_device_train_batch_size 1 "
    "--learning_rate 1e-2 --logging_steps 1 --bf16 false --report_to none --dtype float32 "
    "--gradient_checkpointing false --disable_tqdm true --resume_from_checkpoint true"
).split()
deepspeed = pytest.mark.skipif(sys.platform != "linux", reason="the tests install DeepSpeed on Linux only")


def launch(strategy, kill, arguments):
    """Exit status and output of a command in two processes."""
    # DeepSpeed finds the CPU by itself, and with `use_cpu` accelerate would not start it
    arguments = [*arguments, "--ddp_backend", "gloo", *([] if strategy.startswith("zero") else ["--use_cpu"])]
    command = [*accelerate(strategy), "tests/support/killed_training.py", str(SECONDS), kill, *arguments]
    (result,) = run_together(command, seconds=SECONDS + 60)
    return result


@pytest.mark.timeout(4 * SECONDS)
@pytest.mark.parametrize(
    "strategy", ["ddp", "fsdp2", pytest.param("zero2", marks=deepspeed), pytest.param("zero3", marks=deepspeed)]
)
def test_two_killed_processes_end_as_undisturbed_ones(strategy, tmp_path):
    save_tiny(tmp_path / "model", scale=4)
    rows = [tiny_row(seed, rejected=said("There is a dog." * (1 + seed % 3))) for seed in range(6)]
    save_rows(tmp_path / "pairs.jsonl", rows)
    source = ["--model_name_or_path", str(tmp_path / "model"), "--dataset_name", str(tmp_path / "pairs.jsonl")]

    def run(name, kill=""):
        return launch(strategy, kill, ["dpo", *source, "--output_dir", str(tmp_path / name), *FLAGS])

    def result(name):
        log = json.loads((tmp_path / name / "trainer_state.json").read_text())["log_history"]
        model = LlavaNextForConditionalGeneration.from_pretrained(tmp_path / name)
        return [(entry["loss"], entry["grad_norm"]) for entry in log if "loss" in entry], model.state_dict()

    status, output = run("undisturbed")
    assert status == 0, output
    status, output = run("killed", "in the optimizer of checkpoint 4")
    assert status != 0 and [path.name for path in complete_checkpoints(tmp_path / "killed")] == ["checkpoint-2"], (
        output
    )
    assert (tmp_path / "killed" / "checkpoint-4").exists()
    status, output = run("killed")
    assert status == 0, output
    (steps, weights), (expected, expected_weights) = result("killed"), result("undisturbed")
    assert len(steps) == 6 and steps == expected
    for name, value in expected_weights.items():
        assert torch.equal(weights[name], value), name
