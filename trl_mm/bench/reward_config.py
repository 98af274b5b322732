"""What `trl-mm bench reward` measures."""

from dataclasses import dataclass, field

from .step_config import StepBenchmark


@dataclass(kw_only=True)
class RewardBenchmark(StepBenchmark):
    """
    Settings of a comparison of steps of reward models. The only changes w.r.t. [`StepBenchmark`] are the arguments
    below.

    Args:
        response_tokens (`list[int]`, *optional*, defaults to `[128, 256]`): shortest and longest answer in tokens.
    """

    response_tokens: list[int] = field(default_factory=lambda: [128, 256])

    def __post_init__(self):
        super().__post_init__()
        if not 1 <= min(self.response_tokens) or len(self.response_tokens) not in (1, 2):
            raise ValueError(f"`response_tokens` must be one or two numbers from 1, got {self.response_tokens}.")
