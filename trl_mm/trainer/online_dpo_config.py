"""Settings that `MMOnlineDPOTrainer` adds to TRL's."""

from dataclasses import dataclass, field

from .on_policy.config import AnswerSamplingConfig
from .parts.config import TrainedPartsConfig
from .precision import check_precision
from .rows_config import RowsConfig, check_choices
from .trl_online_dpo import OnlineDPOConfig


LOSS_TYPES = ("sigmoid", "ipo", "hinge")


@dataclass
class MMOnlineDPOConfig(RowsConfig, TrainedPartsConfig, AnswerSamplingConfig, OnlineDPOConfig):
    """
    Configuration of [`MMOnlineDPOTrainer`]. The only changes w.r.t. [`~trl.experimental.online_dpo.OnlineDPOConfig`]
    are the arguments below and those of [`RowsConfig`], [`TrainedPartsConfig`] and [`AnswerSamplingConfig`].

    Args:
        loss_type (`str`, *optional*, defaults to `"sigmoid"`):
            `"sigmoid"` (DPO), `"ipo"` or `"hinge"` (SLiC), as in [`~trl.DPOConfig`]: IPO averages over tokens.
        offline_probability (`float`, *optional*, defaults to `0.0`):
            Probability with which a row trains on its stored `chosen` and `rejected` instead of sampled answers; p in
            eq. 4 of arXiv 2407.02477, 0.5 in its experiments. 0.0 is Online-DPO, 1.0 is DPO, what lies between is
            Mixed-DPO. Drawn for each row and step.
        on_judge_failure (`str`, *optional*, defaults to `"error"`):
            What happens if the judge cannot be reached, after its own retries: `"error"` writes a checkpoint and
            stops, `"skip"` goes on without the verdicts and counts them (`judge/failed_rate`).
        max_steps_without_verdict (`int`, *optional*, defaults to `20`):
            Training stops after so many steps in a row (or all, if it has fewer) in which the judge gave no pair a
            verdict that can be read and that agrees with itself; ties are such verdicts. With one pair in a step, a
            judge that is understood half of the time comes to 20 once in a million steps. 0 never stops.
        log_completions (`bool`, *optional*, defaults to `False`):
            Whether to print sampled answers with verdicts at each logging step, write them to `completions` in the
            output directory, and send them to wandb or trackio with their images.
        num_completions_to_print (`int`, *optional*):
            With `log_completions`, answers to print; all of the last batch of the main process by default.
        dataset_num_proc (`int`, *optional*):
            Processes that count tokens before training.
    """

    loss_type: str = field(default="sigmoid", metadata={"help": "sigmoid, ipo or hinge.", "choices": LOSS_TYPES})
    offline_probability: float = field(
        default=0.0, metadata={"help": "Probability of the stored pair instead of a sampled one; Mixed-DPO."}
    )
    on_judge_failure: str = field(
        default="error",
        metadata={
            "help": "If the judge cannot be reached: error (checkpoint and stop) or skip.",
            "choices": ["error", "skip"],
        },
    )
    max_steps_without_verdict: int = field(
        default=20,
        metadata={"help": "Steps in a row without a readable verdict after which training stops; 0 for never."},
    )
    log_completions: bool = field(
        default=False, metadata={"help": "Whether to log sampled answers with verdicts at each logging step."}
    )
    num_completions_to_print: int | None = field(default=None, metadata={"help": "Answers to print; all by default."})
    dataset_num_proc: int | None = field(default=None, metadata={"help": "Processes that count tokens."})

    def __post_init__(self):
        check_choices(self, loss_type=LOSS_TYPES, on_judge_failure=("error", "skip"))
        if not 0 <= self.offline_probability <= 1:
            raise ValueError(f"`offline_probability` must be in [0, 1], got {self.offline_probability}.")
        most = self.max_steps_without_verdict
        if not isinstance(most, int) or most < 0:
            raise ValueError(f"`max_steps_without_verdict` must be a number of steps, or 0 for never, got {most!r}.")
        if self.use_vllm and self.max_length is None:
            raise ValueError(
                "`use_vllm` needs `max_length`, which vLLM reserves memory for. Give the longest in tokens."
            )
        check_precision(self)
        longest, self.max_length = self.max_length, self.max_length or float("inf")  # TRL's own check wants a number
        super().__post_init__()
        self.max_length = longest
