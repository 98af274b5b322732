import json
from types import SimpleNamespace

import pytest

from trl_mm.trainer.estimate.sharding import Sharding, read_sharding


ARGS = SimpleNamespace(bf16=False, fp16=False)


@pytest.mark.parametrize(
    ("settings", "sharding", "said"),
    [
        ({}, Sharding(), "one process, mixed precision no"),
        (
            {"distributed_type": "NO", "num_processes": 1, "mixed_precision": "bf16"},
            Sharding(mixed_precision="bf16"),
            "one",
        ),
        ({"distributed_type": "MULTI_GPU", "num_processes": 8}, Sharding(8), "DDP on 8 processes"),
        (
            {"distributed_type": "FSDP", "num_processes": 2, "fsdp_config": {"fsdp_offload_params": True}},
            Sharding(2, False, 3, True, True),
            "FSDP on 2 processes, optimizer and weights in CPU memory",
        ),
        (
            {
                "distributed_type": "DEEPSPEED",
                "num_processes": 4,
                "deepspeed_config": {
                    "zero_stage": 3,
                    "offload_optimizer_device": "cpu",
                    "offload_param_device": "none",
                },
            },
            Sharding(4, True, 3, True, False),
            "ZeRO-3 on 4 processes, optimizer in CPU memory",
        ),
    ],
)
def test_an_accelerate_configuration_says_what_is_split(settings, sharding, said):
    assert read_sharding(settings, ARGS) == sharding
    assert str(sharding).startswith(said)


def test_a_deepspeed_file_is_read_too(tmp_path):
    file = tmp_path / "zero.json"
    file.write_text(json.dumps({"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}}}))
    settings = {
        "distributed_type": "DEEPSPEED",
        "num_processes": 2,
        "deepspeed_config": {"deepspeed_config_file": str(file)},
    }
    assert read_sharding(settings, ARGS) == Sharding(2, True, 2, True)


def test_the_precision_of_the_training_arguments_comes_first():
    bf16 = SimpleNamespace(bf16=True, fp16=False)
    assert read_sharding({"mixed_precision": "no"}, bf16).mixed_precision == "bf16"


def test_a_stage_splits_what_it_names_and_what_lower_ones_do():
    sharding = Sharding(8, True, 2)
    assert [sharding.over(stage) for stage in (1, 2, 3)] == [8, 8, 1]
