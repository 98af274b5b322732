import logging
from types import SimpleNamespace

import pytest
from accelerate.utils import DistributedType

from trl_mm.scripts.training import check_saving


def deepspeed(stage, gathers):
    config = {"zero_optimization": {"stage": stage, "stage3_gather_16bit_weights_on_model_save": gathers}}
    plugin = SimpleNamespace(zero_stage=stage, deepspeed_config=config)
    return SimpleNamespace(distributed_type=DistributedType.DEEPSPEED, deepspeed_plugin=plugin)


def fsdp(kind):
    plugin = SimpleNamespace(state_dict_type=kind)
    return SimpleNamespace(distributed_type=DistributedType.FSDP, fsdp_plugin=plugin)


@pytest.mark.parametrize(
    ("state", "cure"),
    [
        (deepspeed(3, False), "zero3_save_16bit_model: true"),
        (fsdp("StateDictType.SHARDED_STATE_DICT"), "fsdp_state_dict_type: FULL_STATE_DICT"),
        (deepspeed(3, True), None),
        (deepspeed(2, False), None),
        (fsdp("StateDictType.FULL_STATE_DICT"), None),
        (SimpleNamespace(distributed_type=DistributedType.NO), None),
    ],
)
def test_a_launch_that_saves_no_model_is_warned_of(state, cure, caplog):
    with caplog.at_level(logging.WARNING):
        check_saving(state)
    assert bool(caplog.text) == (cure is not None) and (cure or "") in caplog.text
