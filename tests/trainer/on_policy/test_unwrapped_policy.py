from types import SimpleNamespace

import pytest

from trl_mm.trainer.on_policy import unwrapped_policy as generation_model
from trl_mm.trainer.on_policy.unwrapped_policy import check_generation


def trainer(fsdp=False, gathers=True, **settings):
    args = SimpleNamespace(ds3_gather_for_generation=gathers)
    return SimpleNamespace(
        **{"use_vllm": False, "offline_probability": 0.0, "is_fsdp_enabled": fsdp, "args": args, **settings}
    )


@pytest.fixture(params=[False, True], ids=["not zero3", "zero3"])
def zero3(request, monkeypatch):
    monkeypatch.setattr(generation_model, "is_deepspeed_zero3_enabled", lambda: request.param)
    return request.param


def test_weights_apart_during_generation_are_refused(zero3):
    check_generation(trainer())
    if zero3:
        with pytest.raises(ValueError, match="`ds3_gather_for_generation=False` .* Leave it `True`, use ZeRO-2"):
            check_generation(trainer(gathers=False))
    else:
        check_generation(trainer(gathers=False))


def test_fsdp_is_refused_where_answers_are_sampled():
    with pytest.raises(ValueError, match="cannot be sampled under FSDP.*`--accelerate_config zero3`.*`use_vllm=True`"):
        check_generation(trainer(fsdp=True, offline_probability=0.5))
    check_generation(trainer(fsdp=True, offline_probability=1))
    check_generation(trainer(fsdp=True, use_vllm=True))
