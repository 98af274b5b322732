from types import SimpleNamespace

import pytest
import torch
from torch.distributed.fsdp import MixedPrecision, MixedPrecisionPolicy

from trl_mm.trainer.fsdp import ZeroGradients, prepare_plugin


def test_outputs_are_not_cast(caplog):
    half = {"param_dtype": torch.bfloat16, "reduce_dtype": torch.bfloat16}
    plugin = SimpleNamespace(
        fsdp_version=2, mixed_precision_policy=MixedPrecisionPolicy(**half, output_dtype=torch.bfloat16)
    )
    prepare_plugin(plugin)
    assert plugin.mixed_precision_policy == MixedPrecisionPolicy(**half, output_dtype=None)
    for version, policy in ((1, MixedPrecision(**half)), (2, None)):
        plugin = SimpleNamespace(fsdp_version=version, mixed_precision_policy=policy)
        prepare_plugin(plugin)
        assert plugin.mixed_precision_policy is policy
    assert caplog.text.count("FSDP1 has not been tried") == 1


@pytest.mark.parametrize("optim", ["AdamW", "Adafactor", "SGD"])
def test_a_weight_that_nothing_reads_has_a_state_and_does_not_decay_at_each_step(optim):
    read, unread, frozen = (torch.nn.Parameter(torch.ones(2, 2)) for _ in range(3))
    frozen.requires_grad_(False)
    settings = {"momentum": 0.9} if optim == "SGD" else {}
    optimizer = getattr(torch.optim, optim)([read, unread, frozen], lr=0.1, weight_decay=0.1, **settings)
    for _ in range(5):
        optimizer.zero_grad()
        read.sum().backward()
        ZeroGradients().on_pre_optimizer_step(None, None, None, optimizer=optimizer)
        optimizer.step()
    assert unread in optimizer.state and frozen not in optimizer.state
    torch.testing.assert_close(unread.detach(), torch.full((2, 2), 0.99))  # that of the first step, 1 - 0.1 * 0.1
    assert read.max() < 0.9 and frozen.min() == 1
