"""What `trl-mm bench rloo` measures."""

from dataclasses import dataclass

from .step_config import StepBenchmark


@dataclass(kw_only=True)
class RLOOBenchmark(StepBenchmark):
    """
    Settings of a comparison of RLOO steps. The only changes w.r.t. [`StepBenchmark`] are the arguments below.

    Args:
        num_generations (`int`, *optional*, defaults to `4`): answers to each prompt; k.
        new_tokens (`int`, *optional*, defaults to `64`): tokens of each sampled answer; all are as long.
        batch_size (`int`, *optional*, defaults to `1`): prompts per step.
        use_peft (`bool`, *optional*, defaults to `True`): whether to train LoRA adapters on the language model.
            Without, TRL loads the reference from `model`.
    """

    num_generations: int = 4
    new_tokens: int = 64
    batch_size: int = 1
    use_peft: bool = True

    def __post_init__(self):
        super().__post_init__()
        if self.num_generations < 2:
            raise ValueError(f"`num_generations` must be at least 2, got {self.num_generations}.")
        if self.new_tokens < 1:
            raise ValueError(f"`new_tokens` must be at least 1, got {self.new_tokens}.")
        if not self.use_peft and self.model is None:
            raise ValueError(
                "`use_peft=False` needs `model`: TRL loads the reference of RLOO from disk. Name a model, or train "
                "adapters."
            )
