"""`trl-mm rloo`: several sampled answers to each prompt, and their rewards, by REINFORCE leave-one-out."""

from dataclasses import dataclass
from functools import partial

from .dry_run import dry_run
from .preflight import check_training
from .reward_functions import check_columns, reward_functions
from .training import TrainingDataArguments, load_splits, peft_config, start, train_and_save
from .training_benchmarks import add_benchmarks, training_benchmarks


NEEDS = ("images", "prompt")


@dataclass(kw_only=True)
class RLOOArguments(TrainingDataArguments):
    """
    Arguments of `trl-mm rloo` besides those of [`TrainingDataArguments`], [`MMRLOOConfig`] and [`~trl.ModelConfig`].

    Args:
        reward_funcs (`list[str]`, *optional*): what rewards the answers. Needed: `yes_no`, `exact_match`, `format`,
            `length` and `objects` (`trl_mm.reward.verifiable`), functions by their dotted path, looked for in the
            working directory too, or ids or paths of reward models, which see the images. A mapping gives one its
            arguments, such as `{"objects": {"metric": "chair"}}`; `reward_weights` weights them.
    """

    reward_funcs: list[str] | None = None

    def __post_init__(self):
        super().__post_init__()
        if not self.reward_funcs:
            raise ValueError(
                "`reward_funcs` is missing: name what rewards the answers, such as `runs/reward` (a reward model) or "
                "`objects`."
            )


def make_parser():
    from trl import ModelConfig

    from ..trainer.rloo_config import MMRLOOConfig
    from .recipe_parser import RecipeParser

    return RecipeParser((RLOOArguments, MMRLOOConfig, ModelConfig), prog="trl-mm rloo")


def main(argv=None, launch=None):
    start(make_parser(), run, argv, launch)


def run(args, training_args, model_args, argv, launch=None):
    from ..trainer.rloo_trainer import MMRLOOTrainer

    has_reference = training_args.beta > 0 and not model_args.use_peft
    functions = partial(reward_functions, args.reward_funcs)
    train_on_rewards(MMRLOOTrainer, functions, args, training_args, model_args, launch, has_reference=has_reference)


def train_on_rewards(make_trainer, make_functions, args, training_args, model_args, launch, **estimated):
    """Train with RLOO or PPO; `estimated` says what `--dry_run` counts besides the policy."""
    from trl import get_quantization_config

    benchmarks = training_benchmarks(args, training_args)
    if args.dry_run:
        answers = training_args.num_generations
        dry_run(
            args,
            training_args,
            model_args,
            NEEDS,
            launch,
            answer_tokens=training_args.max_completion_length,
            num_answers=min(answers, training_args.per_device_train_batch_size),
            answers_per_row=answers,
            **estimated,
        )
        print("Not counted: reward models, and the key-value cache while answers are sampled.")
        return
    check_training(training_args, model_args)
    functions = make_functions()
    train_dataset, eval_dataset = load_splits(args, training_args, NEEDS)
    check_columns(functions, train_dataset.column_names)
    trainer = make_trainer(
        model_args.model_name_or_path,
        functions,
        args=training_args,
        train_dataset=train_dataset,
        eval_dataset=eval_dataset,
        quantization_config=get_quantization_config(model_args),
        peft_config=peft_config(model_args),
    )
    add_benchmarks(trainer, benchmarks)
    train_and_save(trainer, args, model_args)


if __name__ == "__main__":
    import sys

    from .errors import run_with_one_line_errors

    sys.exit(run_with_one_line_errors(main))
