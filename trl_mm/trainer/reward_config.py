"""Settings that `MMRewardTrainer` adds to TRL's."""

from dataclasses import dataclass

from trl import RewardConfig

from .loading_config import LoadingConfig
from .parts.config import TrainedPartsConfig
from .precision import check_precision
from .rows_config import BatchesConfig, RowsConfig


@dataclass
class MMRewardConfig(BatchesConfig, RowsConfig, LoadingConfig, TrainedPartsConfig, RewardConfig):
    """
    Configuration of [`MMRewardTrainer`]. The only changes w.r.t. [`~trl.RewardConfig`] are the arguments of
    [`BatchesConfig`], [`RowsConfig`], [`LoadingConfig`] and [`TrainedPartsConfig`].
    """

    def __post_init__(self) -> None:
        if self.train_sampling_strategy == "batch_rebalance":
            raise ValueError(
                "`train_sampling_strategy='batch_rebalance'` makes batches of different sizes, and TRL's loss would "
                "weight their rows differently. Use 'group_by_length'."
            )
        check_precision(self)
        super().__post_init__()
