from types import SimpleNamespace

import torch
from torch.distributed.fsdp import MixedPrecision, MixedPrecisionPolicy

from trl_mm.trainer.fsdp import keep_log_probs_in_float32


def test_outputs_are_not_cast():
    half = {"param_dtype": torch.bfloat16, "reduce_dtype": torch.bfloat16}
    plugin = SimpleNamespace(
        fsdp_version=2, mixed_precision_policy=MixedPrecisionPolicy(**half, output_dtype=torch.bfloat16)
    )
    keep_log_probs_in_float32(plugin)
    assert plugin.mixed_precision_policy == MixedPrecisionPolicy(**half, output_dtype=None)
    for version, policy in ((1, MixedPrecision(**half)), (2, None)):
        plugin = SimpleNamespace(fsdp_version=version, mixed_precision_policy=policy)
        keep_log_probs_in_float32(plugin)
        assert plugin.mixed_precision_policy is policy
