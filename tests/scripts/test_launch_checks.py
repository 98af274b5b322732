import logging
from types import SimpleNamespace

import pytest
from accelerate.utils import DistributedType
from trl import ModelConfig

from trl_mm.scripts.launch_checks import check_quantization, check_saving, splits_weights


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


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"load_in_8bit": True}, "`load_in_8bit` does not work with ZeRO-3 .* `load_in_4bit`.*zero2"),
        ({"load_in_4bit": True}, "`load_in_4bit` works .* Set `bnb_4bit_quant_storage: bfloat16`, or .*zero2"),
        ({"load_in_4bit": True, "bnb_4bit_quant_storage": "uint8"}, "`bnb_4bit_quant_storage: bfloat16`"),
        ({"load_in_4bit": True, "bnb_4bit_quant_storage": "bfloat16"}, None),
        ({}, None),
    ],
)
def test_weights_that_cannot_be_split_are_refused(settings, message):
    model = ModelConfig(**settings)
    check_quantization(model, splits_weights=False)
    if message is None:
        check_quantization(model, splits_weights=True)
    else:
        with pytest.raises(ValueError, match=message):
            check_quantization(model, splits_weights=True)


@pytest.mark.parametrize(
    ("plugin", "fsdp", "expected"), [(None, "", False), (None, "true", True), (2, "", False), (3, "", True)]
)
def test_what_splits_weights(plugin, fsdp, expected, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", fsdp)
    plugin = None if plugin is None else SimpleNamespace(zero_stage=plugin)
    assert splits_weights(SimpleNamespace(deepspeed_plugin=plugin)) == expected
