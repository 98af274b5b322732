"""`trl-mm ppo`: sampled answers and their rewards, with a value model on the same base, by PPO."""

from dataclasses import dataclass

from .reward_functions import one_reward
from .rloo import RLOOArguments, train_on_rewards
from .training import start


@dataclass(kw_only=True)
class PPOArguments(RLOOArguments):
    """
    Arguments of `trl-mm ppo` besides those of [`TrainingDataArguments`], [`MMPPOConfig`] and [`~trl.ModelConfig`].

    Args:
        reward_funcs (`list[str]`, *optional*): as in `trl-mm rloo`. A folder of LoRA adapters of a reward model on the
            policy's base is put on that base, which is then in memory once.
    """

    reward_funcs: list[str] | None = None


def make_parser():
    from trl import ModelConfig

    from ..trainer.ppo_config import MMPPOConfig
    from .recipe_parser import RecipeParser

    return RecipeParser((PPOArguments, MMPPOConfig, ModelConfig), prog="trl-mm ppo")


def main(argv=None, launch=None):
    start(make_parser(), run, argv, launch)


def run(args, training_args, model_args, argv, launch=None):
    from ..tokens.processor import base_of_adapter
    from ..trainer.ppo_trainer import MMPPOTrainer
    from ..trainer.shared_base import check_trains_adapters, checked_adapter

    check_trains_adapters(model_args.use_peft)
    adapters = [name for name in args.reward_funcs if isinstance(name, str) and base_of_adapter(name)]
    for name in filter(None, (*adapters, training_args.value_adapter)):
        checked_adapter(name, model_args.model_name_or_path)

    def functions():
        return [name if name in adapters else one_reward(name) for name in args.reward_funcs]

    estimated = {"has_reference": False, "has_value_model": True}
    train_on_rewards(MMPPOTrainer, functions, args, training_args, model_args, launch, **estimated)


if __name__ == "__main__":
    import sys

    from .errors import run_with_one_line_errors

    sys.exit(run_with_one_line_errors(main))
