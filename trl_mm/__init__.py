"""
Preference data, training and evaluation against hallucination in vision-language models, on top of TRL.

The names below are imported on first use (PEP 562): torch and TRL take seconds to load, and `trl-mm --help` needs
neither.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from .bdhs.callback import BDHSDataGenerator
    from .bdhs.config import BDHSConfig
    from .bdhs.sampler import BDHSSampler
    from .data.hub import push_preferences
    from .data.loading import load_preferences
    from .data.protocols import PairwiseJudge
    from .eval.benchmark_callback import BenchmarkCallback
    from .judges.pairwise import PairwiseVLMJudge
    from .judges.remote import RemoteJudge
    from .judges.reward import RewardJudge
    from .reward.scorer import RewardModel
    from .trainer.dpo_config import MMDPOConfig
    from .trainer.dpo_trainer import MMDPOTrainer
    from .trainer.online_dpo_config import MMOnlineDPOConfig
    from .trainer.online_dpo_trainer import MMOnlineDPOTrainer
    from .trainer.ppo_config import MMPPOConfig
    from .trainer.ppo_trainer import MMPPOTrainer
    from .trainer.reward_config import MMRewardConfig
    from .trainer.reward_trainer import MMRewardTrainer
    from .trainer.rloo_config import MMRLOOConfig
    from .trainer.rloo_trainer import MMRLOOTrainer

__all__ = [
    "BDHSConfig",
    "BDHSDataGenerator",
    "BDHSSampler",
    "BenchmarkCallback",
    "MMDPOConfig",
    "MMDPOTrainer",
    "MMOnlineDPOConfig",
    "MMOnlineDPOTrainer",
    "MMPPOConfig",
    "MMPPOTrainer",
    "MMRLOOConfig",
    "MMRLOOTrainer",
    "MMRewardConfig",
    "MMRewardTrainer",
    "PairwiseJudge",
    "PairwiseVLMJudge",
    "RemoteJudge",
    "RewardJudge",
    "RewardModel",
    "load_preferences",
    "push_preferences",
]

_MODULES = {
    "BDHSConfig": ".bdhs.config",
    "BDHSDataGenerator": ".bdhs.callback",
    "BDHSSampler": ".bdhs.sampler",
    "BenchmarkCallback": ".eval.benchmark_callback",
    "MMDPOConfig": ".trainer.dpo_config",
    "MMDPOTrainer": ".trainer.dpo_trainer",
    "MMOnlineDPOConfig": ".trainer.online_dpo_config",
    "MMOnlineDPOTrainer": ".trainer.online_dpo_trainer",
    "MMPPOConfig": ".trainer.ppo_config",
    "MMPPOTrainer": ".trainer.ppo_trainer",
    "MMRLOOConfig": ".trainer.rloo_config",
    "MMRLOOTrainer": ".trainer.rloo_trainer",
    "MMRewardConfig": ".trainer.reward_config",
    "MMRewardTrainer": ".trainer.reward_trainer",
    "PairwiseJudge": ".data.protocols",
    "PairwiseVLMJudge": ".judges.pairwise",
    "RemoteJudge": ".judges.remote",
    "RewardJudge": ".judges.reward",
    "RewardModel": ".reward.scorer",
    "load_preferences": ".data.loading",
    "push_preferences": ".data.hub",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value = version("trl-mm")
    elif name in _MODULES:
        value = getattr(import_module(_MODULES[name], __name__), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
