"""Settings that `MMDPOTrainer` adds to TRL's."""

from dataclasses import dataclass, field

from trl import DPOConfig

from .loading_config import LoadingConfig
from .on_policy.config import AnswerSamplingConfig
from .parts.config import TrainedPartsConfig
from .precision import check_precision
from .rows_config import BatchesConfig, RowsConfig


@dataclass
class MMDPOConfig(BatchesConfig, RowsConfig, LoadingConfig, TrainedPartsConfig, AnswerSamplingConfig, DPOConfig):
    """
    Configuration of [`MMDPOTrainer`]. The only changes w.r.t. [`~trl.DPOConfig`] are the arguments below and those of
    [`BatchesConfig`], [`RowsConfig`], [`LoadingConfig`], [`TrainedPartsConfig`] and [`AnswerSamplingConfig`].

    Args:
        ref_log_probs_dir (`str`, *optional*):
            With `precompute_ref_log_probs`, folder that keeps reference log-probabilities, in one folder for each
            combination of reference, rows, processor and settings. Defaults to `trl_mm/ref_log_probs` in the cache of
            Hugging Face (`HF_HOME`).
        process_timeout (`float`, *optional*, defaults to `600.0`):
            Seconds without a sign of life after which one of several processes counts as dead, while pairs are made
            before training (`online=False`). A slow process is waited for.
    """

    ref_log_probs_dir: str | None = field(
        default=None, metadata={"help": "Folder that keeps precomputed reference log-probabilities."}
    )
    process_timeout: float = field(
        default=600.0,
        metadata={"help": "Seconds without a sign of life after which a process that makes pairs counts as dead."},
    )

    def __post_init__(self) -> None:
        if self.train_sampling_strategy == "batch_rebalance":
            raise ValueError(
                "`train_sampling_strategy='batch_rebalance'` makes batches of different sizes, and TRL's loss would "
                "weight their rows differently. Use 'group_by_length'."
            )
        if not self.process_timeout > 0:
            raise ValueError(f"`process_timeout` must be positive, got {self.process_timeout}.")
        check_precision(self)
        super().__post_init__()
