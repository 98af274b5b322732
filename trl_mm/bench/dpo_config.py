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
        torch_compile (`bool`, *optional*, defaults to `False`): whether ours compiles its layers.
        use_liger_kernel (`bool`, *optional*, defaults to `False`): whether ours takes Liger's kernels, on a GPU.
        wall_clock (`bool`, *optional*, defaults to `True`): whether to measure `trainer.train()` of each side too,
            with all that is between steps.
        one_at_a_time (`bool`, *optional*, defaults to `False`): whether only one side is in memory, which takes all
            its steps before the next begins: for models of which two do not fit.
        float32_run (`bool`, *optional*, defaults to `True`): whether to take the steps in float32 too, by TRL's
            trainer, if sides compute in bfloat16, and say how far their losses are from it.
        rows (`str`, *optional*, defaults to `"pair"`): what rows share: `"pair"` nothing but the prompt of a pair,
            `"six_pairs"` four answers to one prompt (for a `batch_size` of 6), `"four_questions"` an image (for one of
            4).
    """

    response_tokens: list[int] = field(default_factory=lambda: [128, 256])
    precompute_ref_log_probs: bool = False
    torch_compile: bool = False
    use_liger_kernel: bool = False
    wall_clock: bool = True
    one_at_a_time: bool = False
    float32_run: bool = True
    rows: str = field(default="pair", metadata={"choices": ["pair", "six_pairs", "four_questions"]})

    def __post_init__(self):
        super().__post_init__()
        if self.rows not in (known := ("pair", "six_pairs", "four_questions")):
            raise ValueError(f"`rows` must be one of {', '.join(known)}, got {self.rows!r}.")
        if not 1 <= min(self.response_tokens) or len(self.response_tokens) not in (1, 2):
            raise ValueError(f"`response_tokens` must be one or two numbers from 1, got {self.response_tokens}.")
