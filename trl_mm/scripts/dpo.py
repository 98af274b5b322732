"""`trl-mm dpo`: DPO on image-text pairs, from disk or made by BDHS on the way."""

import shlex
import sys
from dataclasses import dataclass, fields

from .dry_run import dry_run
from .preflight import check_training, check_writable
from .training import (
    TrainingDataArguments,
    as_mapping,
    check_keys,
    load_splits,
    peft_config,
    start,
    train_and_save,
)
from .training_benchmarks import add_benchmarks, training_benchmarks


@dataclass(kw_only=True)
class DPOArguments(TrainingDataArguments):
    """
    Arguments of `trl-mm dpo` besides those of [`TrainingDataArguments`], [`MMDPOConfig`] and [`~trl.ModelConfig`].

    Args:
        bdhs (`dict`, *optional*): settings of [`BDHSConfig`]; rows are then SFT rows and pairs are made on the way.
        bdhs_online (`bool`, *optional*, defaults to `True`): with `bdhs`, pairs from the current policy at each step;
            otherwise once before training.
        bdhs_rejected_weight (`float`, *optional*): with `bdhs`, weight of the `rejected` that a row has already beside
            the one that is made (γ of eq. 5, 0.5 in the paper); without it, it is not looked at.
        bdhs_save_to (`str`, *optional*): with `bdhs`, folder that keeps the pairs; by default pairs made at each step
            are not kept, and those made once are in `pairs` in the output directory.
        bdhs_push_to_hub (`dict`, *optional*): with `bdhs`, arguments of [`push_preferences`], such as `repo_id` and
            `private`: pairs made at each step are pushed at the end, those made once before the first step.
    """

    bdhs: dict | str | None = None
    bdhs_online: bool = True
    bdhs_rejected_weight: float | None = None
    bdhs_save_to: str | None = None
    bdhs_push_to_hub: dict | str | None = None


def make_parser():
    from trl import ModelConfig

    from ..trainer.dpo_config import MMDPOConfig
    from .recipe_parser import RecipeParser

    return RecipeParser((DPOArguments, MMDPOConfig, ModelConfig), prog="trl-mm dpo")


def main(argv=None, launch=None):
    start(make_parser(), run, argv, launch, folders=["bdhs_save_to"])


def run(args, training_args, model_args, argv, launch=None):
    from trl import get_quantization_config

    from ..trainer.checkpoints import is_resumed
    from ..trainer.dpo_trainer import MMDPOTrainer, check_settings, needed_columns
    from ..trainer.vision_processor import vision_processor

    generator = pair_generator(args, argv)
    check_settings(training_args, generator)
    needs = needed_columns(generator)
    benchmarks = training_benchmarks(args, training_args)
    if args.dry_run:
        # A distorted answer is scored where the chosen one is
        branches = 2 if args.bdhs_rejected_weight is None or generator.distorts else 3
        dry_run(args, training_args, model_args, needs, launch, pair_generator=generator, num_answers=branches)
        return
    check_training(training_args, model_args)
    processor = vision_processor(model_args.model_name_or_path, training_args)
    if generator is not None:
        check_writable("bdhs_save_to", args.bdhs_save_to)
        if not generator.distorts:
            generator.sampler(processor, str(training_args.device))  # packages and the embedding model show now
        # One that is resumed may have pushed already; it looks itself, when it knows its step
        if training_args.process_index == 0 and not is_resumed(training_args):
            generator.check_repo()
    train_dataset, eval_dataset = load_splits(args, training_args, needs)
    trainer = MMDPOTrainer(
        model_args.model_name_or_path,
        args=training_args,
        train_dataset=train_dataset,
        eval_dataset=eval_dataset,
        processing_class=processor,
        callbacks=[] if generator is None else [generator],
        quantization_config=get_quantization_config(model_args),
        peft_config=peft_config(model_args),
    )
    add_benchmarks(trainer, benchmarks)
    train_and_save(trainer, args, model_args)


def pair_generator(args, argv):
    """The [`BDHSDataGenerator`] that the arguments ask for, or `None`."""
    from ..bdhs.callback import BDHSDataGenerator

    if args.bdhs is None:
        return None
    return BDHSDataGenerator(
        bdhs_config(args.bdhs),
        online=args.bdhs_online,
        save_to=args.bdhs_save_to,
        rejected_weight=args.bdhs_rejected_weight,
        push_to_hub=push_arguments(args.bdhs_push_to_hub, argv),
    )


def bdhs_config(settings):
    """[`BDHSConfig`] from a mapping, or its JSON; an unknown key is an error that names the nearest known one."""
    from ..bdhs.config import BDHSConfig

    settings = as_mapping("bdhs", settings, '{"mask_threshold": 0.99}')
    check_keys("bdhs", settings, [field.name for field in fields(BDHSConfig)])
    return BDHSConfig(**settings)


def push_arguments(settings, argv):
    """Arguments of [`push_preferences`] (`dict`) from a mapping, or its JSON, with the command for the card."""
    if settings is None:
        return None
    settings = as_mapping("bdhs_push_to_hub", settings, '{"repo_id": "me/pairs"}')
    check_keys("bdhs_push_to_hub", settings, ["repo_id", "private", "overwrite", "license"])
    return {"command": shlex.join(["trl-mm", "dpo", *(sys.argv[1:] if argv is None else argv)]), **settings}


if __name__ == "__main__":
    from .errors import run_with_one_line_errors

    sys.exit(run_with_one_line_errors(main))
