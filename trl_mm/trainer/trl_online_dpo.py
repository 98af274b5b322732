"""TRL's online trainer, which may change in any release: the version of TRL is pinned, so its warning is left out."""

import warnings

from trl.import_utils import TRLExperimentalWarning


with warnings.catch_warnings():
    warnings.simplefilter("ignore", TRLExperimentalWarning)
    from trl.experimental.online_dpo import OnlineDPOConfig, OnlineDPOTrainer

__all__ = ["OnlineDPOConfig", "OnlineDPOTrainer"]
