"""A reward model as LoRA adapters on the policy's base, which is in memory once for both."""

from functools import cached_property
from typing import Any

from peft import PeftModel

from ..reward.scorer import RewardModel
from ..tokens.processor import base_of_adapter, vision_processor_of
from .shared_base import checked_adapter, reward_adapter


class AdapterReward(RewardModel):
    """
    The only change w.r.t. [`RewardModel`] is that adapters are put on the base of a trainer's policy, as soon as the
    model is asked for: the policy is loaded after its rewards are named.

    Args:
        name (`str`): folder of the adapters, as `trl-mm reward` saves them.
        base (`str`): id or path of the policy's base.
        trainer ([`MMPPOTrainer`]): the trainer.

    Raises:
        ValueError: the adapters are of another base, have no trained score, or one of several labels.
    """

    def __init__(self, name: str, base: str, trainer: Any):
        self.__name__ = name.rstrip("/").split("/")[-1]
        self._adapter, self._trainer = checked_adapter(name, base), trainer
        self._processor = vision_processor_of(name, "`reward_funcs`")  # with the template that it was trained with

    @cached_property
    def model(self) -> PeftModel:
        """The reward model, over the weights of the policy."""
        name = self.__name__
        super().__init__(reward_adapter(self._trainer.model, self._adapter), self._processor)
        self.__name__ = name
        del self._adapter, self._trainer, self._processor
        return vars(self)["model"]

    def __call__(self, *args: Any, **columns: Any) -> list[float]:
        """As [`RewardModel`]."""
        self.model.eval()
        return super().__call__(*args, **columns)


def on_the_base(reward_funcs: Any, base: str, trainer: Any) -> list[Any]:
    """
    Rewards with an [`AdapterReward`] for each folder of adapters; all others as they are.

    Args:
        reward_funcs (`Callable` or `str` or [`~transformers.PreTrainedModel`] or `list`): as in [`MMRLOOTrainer`].
        base (`str`): id or path of the policy's base.
        trainer ([`MMPPOTrainer`]): the trainer.
    """
    functions = reward_funcs if isinstance(reward_funcs, list | tuple) else [reward_funcs]
    return [
        AdapterReward(function, base, trainer) if isinstance(function, str) and base_of_adapter(function) else function
        for function in functions
    ]
