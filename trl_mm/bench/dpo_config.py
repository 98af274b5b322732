"""What `trl-mm bench dpo` measures."""

from dataclasses import dataclass, field

from .step_config import StepBenchmark


@dataclass(kw_only=True)
class DPOBenchmark(StepBenchmark):
    """
    Settings of a comparison of DPO steps. The only changes w.r.t. [`StepBenchmark`] are the arguments below.

    Args:
        response_tokens (`list[int]`, *optional*, defaults to `[128, 256]`): shortest and longest answer in tokens.
        precompute_ref_log_probs (`bool`, *optional*, defaults to `False`): whether ours computes the reference before
            training. TRL does not for images and goes on with a forward pass per step.
    """

    response_tokens: list[int] = field(default_factory=lambda: [128, 256])
    precompute_ref_log_probs: bool = False

    def __post_init__(self):
        super().__post_init__()
        if not 1 <= min(self.response_tokens) or len(self.response_tokens) not in (1, 2):
            raise ValueError(f"`response_tokens` must be one or two numbers from 1, got {self.response_tokens}.")
