"""Settings that `MMDPOTrainer` adds to TRL's."""

from dataclasses import dataclass, field

from trl import DPOConfig

from .trained_parts_config import TrainedPartsConfig


@dataclass
class MMDPOConfig(TrainedPartsConfig, DPOConfig):
    """
    Configuration of [`MMDPOTrainer`]. The only changes w.r.t. [`~trl.DPOConfig`] are the arguments below and those of
    [`TrainedPartsConfig`].

    Args:
        max_length (`int`, *optional*, defaults to `4096`):
            Longest sequence in tokens, image tokens included. TRL's default of 1,024 is shorter than one image of
            LLaVA-1.6 (1,176 to 2,928 tokens). Answers are cut to fit, prompts and image tokens never.
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
            the same up to rounding. Models and attention implementations that do not fit train in TRL's layout, which
            is said once at level `info`.
        ref_log_probs_dir (`str`, *optional*):
            With `precompute_ref_log_probs`, folder that keeps reference log-probabilities, in one folder for each
            combination of reference, rows, processor and settings. Defaults to `trl_mm/ref_log_probs` in the cache of
            Hugging Face (`HF_HOME`).
    """

    max_length: int | None = field(
        default=4096,
        metadata={"help": "Longest sequence in tokens, image tokens included. Prompts are never cut."},
    )
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
    ref_log_probs_dir: str | None = field(
        default=None, metadata={"help": "Folder that keeps precomputed reference log-probabilities."}
    )

    def __post_init__(self):
        for name, known in {"overlong": ("drop", "error"), "on_bad_image": ("error", "skip")}.items():
            if getattr(self, name) not in known:
                raise ValueError(f"`{name}` must be one of {', '.join(known)}, got {getattr(self, name)!r}.")
        if self.train_sampling_strategy == "batch_rebalance":
            raise ValueError(
                "`train_sampling_strategy='batch_rebalance'` makes batches of different sizes, and TRL's loss would "
                "weight their rows differently. Use 'group_by_length'."
            )
        super().__post_init__()
