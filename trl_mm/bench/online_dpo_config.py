"""What `trl-mm bench online-dpo` measures."""

from dataclasses import dataclass

from .step_config import StepBenchmark


@dataclass(kw_only=True)
class OnlineDPOBenchmark(StepBenchmark):
    """
    Settings of a comparison of online DPO steps. The only changes w.r.t. [`StepBenchmark`] are the arguments below.

    Args:
        new_tokens (`int`, *optional*, defaults to `64`): tokens of each sampled answer; all are as long.
            With `gradient_checkpointing`, TRL samples them without a KV cache.
        batch_size (`int`, *optional*, defaults to `1`): rows per step.
    """

    new_tokens: int = 64
    batch_size: int = 1

    def __post_init__(self):
        super().__post_init__()
        if self.new_tokens < 1:
            raise ValueError(f"`new_tokens` must be at least 1, got {self.new_tokens}.")
