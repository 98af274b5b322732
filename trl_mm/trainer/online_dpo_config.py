"""Settings that `MMOnlineDPOTrainer` adds to TRL's."""

from dataclasses import dataclass, field

from .experimental import OnlineDPOConfig
from .pair_losses import LOSSES
from .trained_parts_config import TrainedPartsConfig


@dataclass
class MMOnlineDPOConfig(TrainedPartsConfig, OnlineDPOConfig):
    """
    Configuration of [`MMOnlineDPOTrainer`]. The only changes w.r.t. [`~trl.experimental.online_dpo.OnlineDPOConfig`]
    are the arguments below and those of [`TrainedPartsConfig`].

    Args:
        loss_type (`str`, *optional*, defaults to `"sigmoid"`):
            `"sigmoid"` (DPO), `"ipo"` or `"hinge"` (SLiC), as in [`~trl.DPOConfig`]: IPO averages over tokens.
        max_length (`int`, *optional*, defaults to `4096`):
            Longest sequence in tokens, image tokens included. TRL's default of 512 is shorter than one image of
            LLaVA-1.6 (1,176 to 2,928 tokens). Answers are cut to fit, prompts and image tokens never.
        offline_probability (`float`, *optional*, defaults to `0.0`):
            Probability with which a row trains on its stored `chosen` and `rejected` instead of sampled answers; p in
            eq. 4 of arXiv 2407.02477, 0.5 in its experiments. 0.0 is Online-DPO, 1.0 is DPO, what lies between is
            Mixed-DPO. Drawn for each row and step.
        on_judge_failure (`str`, *optional*, defaults to `"error"`):
            What happens if the judge cannot be reached, after its own retries: `"error"` writes a checkpoint and
            stops, `"skip"` goes on without the verdicts and counts them (`judge/failed_rate`).
        log_completions (`bool`, *optional*, defaults to `False`):
            Whether to print sampled answers with verdicts at each logging step, write them to `completions` in the
            output directory, and send them to wandb or trackio with their images.
        num_completions_to_print (`int`, *optional*):
            With `log_completions`, answers to print; all of the last batch of the main process by default.
        overlong (`str`, *optional*, defaults to `"drop"`):
            What becomes of rows whose prompt alone does not fit `max_length`: `"drop"` counts and drops them before
            training, `"error"` refuses the dataset.
        check_images (`bool`, *optional*, defaults to `True`):
            Whether to decode every image once before training, as only this shows a truncated file.
        on_bad_image (`str`, *optional*, defaults to `"error"`):
            What becomes of rows with a missing or undecodable image: `"error"` refuses the dataset, `"skip"` leaves
            them out, counts them, and lists them in `bad_rows.jsonl` in the output directory.
        prefix_sharing (`bool`, *optional*, defaults to `True`):
            Whether to compute the prompt and its images once for both answers instead of once for each. Losses are
            the same up to rounding. Models and attention implementations that do not fit train in TRL's layout.
        dataset_num_proc (`int`, *optional*):
            Processes that count tokens before training.
    """

    loss_type: str = field(default="sigmoid", metadata={"help": "sigmoid, ipo or hinge.", "choices": list(LOSSES)})
    max_length: int | None = field(
        default=4096,
        metadata={"help": "Longest sequence in tokens, image tokens included. Prompts are never cut."},
    )
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
    log_completions: bool = field(
        default=False, metadata={"help": "Whether to log sampled answers with verdicts at each logging step."}
    )
    num_completions_to_print: int | None = field(default=None, metadata={"help": "Answers to print; all by default."})
    overlong: str = field(
        default="drop",
        metadata={"help": "Rows whose prompt does not fit `max_length`: drop or error.", "choices": ["drop", "error"]},
    )
    check_images: bool = field(default=True, metadata={"help": "Whether to decode every image once before training."})
    on_bad_image: str = field(
        default="error",
        metadata={"help": "Rows with a missing or undecodable image: error or skip.", "choices": ["error", "skip"]},
    )
    prefix_sharing: bool = field(
        default=True, metadata={"help": "Whether to compute the prompt and its images once for both answers."}
    )
    dataset_num_proc: int | None = field(default=None, metadata={"help": "Processes that count tokens."})

    def __post_init__(self):
        choices = {
            "loss_type": tuple(LOSSES),
            "overlong": ("drop", "error"),
            "on_bad_image": ("error", "skip"),
            "on_judge_failure": ("error", "skip"),
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(f"`{name}` must be one of {', '.join(known)}, got {getattr(self, name)!r}.")
        if not 0 <= self.offline_probability <= 1:
            raise ValueError(f"`offline_probability` must be in [0, 1], got {self.offline_probability}.")
        if self.use_vllm and self.max_length is None:
            raise ValueError(
                "`use_vllm` needs `max_length`, which vLLM reserves memory for. Give the longest in tokens."
            )
        longest, self.max_length = self.max_length, self.max_length or float("inf")  # TRL's own check wants a number
        super().__post_init__()
        self.max_length = longest
