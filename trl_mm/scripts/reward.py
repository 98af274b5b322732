"""`trl-mm reward`: a reward model on image-text pairs."""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from .dry_run import dry_run
from .mixtures import as_list
from .preflight import check_training
from .training import TrainingDataArguments, as_mapping, load_split, load_splits, peft_config, start, train_and_save


@dataclass(kw_only=True)
class RewardArguments(TrainingDataArguments):
    """
    Arguments of `trl-mm reward` besides those of [`TrainingDataArguments`], [`MMRewardConfig`] and
    [`~trl.ModelConfig`].

    Args:
        eval_datasets (`dict`, *optional*): further rows to evaluate on, from a name to a folder, a file or a Hub id:
            `{"rlhf_v": "data/rlhf_v/test"}` is logged as `eval_rlhf_v_accuracy`. Images are relative to the folder of
            the data.
        blind_eval (`bool`, *optional*, defaults to `True`): whether to evaluate on all of these with exchanged images,
            too (`eval_NAME_blind_accuracy`). Where that is as good, the model reads the text only.
        eval_only (`bool`, *optional*, defaults to `False`): whether to evaluate a trained reward model, or an adapter
            of one, and train nothing. `dataset_name` is then needed for `dataset_test_split` only.
    """

    eval_datasets: dict | str | None = None
    blind_eval: bool = True
    eval_only: bool = False

    def __post_init__(self):
        if self.eval_only:
            if self.dry_run:
                raise ValueError("`eval_only` trains nothing, so `dry_run` would do nothing. Leave one out.")
            if as_list(self.datasets) is not None:
                raise ValueError("`eval_only` reads no `datasets` (`--datasets null`). Name rows in `eval_datasets`.")
            if not self.eval_datasets and not self.dataset_test_split:
                raise ValueError("`eval_only` needs rows. Name them in `eval_datasets` or `dataset_test_split`.")
        if not self.eval_only or self.dataset_test_split:
            super().__post_init__()
        if self.eval_datasets is not None:
            self.eval_datasets = as_mapping("eval_datasets", self.eval_datasets, '{"rlhf_v": "data/rlhf_v/test"}')


def make_parser():
    from trl import ModelConfig

    from ..trainer.reward_config import MMRewardConfig
    from .recipe_parser import RecipeParser

    return RecipeParser((RewardArguments, MMRewardConfig, ModelConfig), prog="trl-mm reward")


def main(argv=None, launch=None):
    start(make_parser(), run, argv, launch)


def run(args, training_args, model_args, argv, launch=None):
    from trl import get_quantization_config

    from ..data.rows import PREFERENCE_COLUMNS
    from ..trainer.reward_trainer import MMRewardTrainer
    from ..trainer.vision_processor import vision_processor

    if args.dry_run:
        dry_run(args, training_args, model_args, PREFERENCE_COLUMNS, launch, has_reference=False)
        return
    check_training(training_args, model_args)
    if args.eval_only:
        evaluate_only(args, training_args, model_args)
        return
    processor = vision_processor(model_args.model_name_or_path, training_args)
    train_dataset, test_dataset = load_splits(args, training_args, PREFERENCE_COLUMNS)
    eval_datasets = evaluations(args, training_args, test_dataset)
    trainer = MMRewardTrainer(
        model_args.model_name_or_path,
        args=training_args,
        train_dataset=train_dataset,
        eval_dataset=eval_datasets or None,
        processing_class=processor,
        quantization_config=get_quantization_config(model_args),
        peft_config=peft_config(model_args),
    )
    train_and_save(trainer, args, model_args, partial(evaluate, trainer) if eval_datasets else None)


def evaluate_only(args, training_args, model_args):
    """Evaluate a trained reward model."""
    from trl import get_quantization_config

    from ..data.rows import PREFERENCE_COLUMNS
    from ..reward.scorer import check_reward_model, load_reward_model
    from ..trainer.reward_trainer import MMRewardTrainer
    from ..trainer.vision_processor import vision_processor

    name, split = model_args.model_name_or_path, args.dataset_test_split
    source = {"trust_remote_code": training_args.trust_remote_code, **training_args.model_init_kwargs}
    check_reward_model(name, **source)
    processor = vision_processor(name, training_args)
    test_dataset = load_split(args, training_args, PREFERENCE_COLUMNS, split) if split else None
    eval_datasets = evaluations(args, training_args, test_dataset)
    trainer = MMRewardTrainer(
        load_reward_model(name, quantization_config=get_quantization_config(model_args), **source),
        args=training_args,
        train_dataset=next(iter(eval_datasets.values())),  # TRL insists on one
        eval_dataset=eval_datasets,
        processing_class=processor,
    )
    evaluate(trainer)


def evaluate(trainer):
    """Evaluate on all rows that there are for it, print what that says, and write it into `evaluation.json`."""
    from ..data.atomic_file import replacing

    trainer.evaluate()
    if not trainer.is_world_process_zero():
        return
    path = Path(trainer.args.output_dir) / "evaluation.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, "main") as file:
        file.write(json.dumps(trainer.evaluations, indent=2).encode() + b"\n")
    for table in trainer.evaluation_tables():
        print(f"{table}\n")
    print(f"Blind is with the images of other rows: as good as seeing, the model reads the text only. All in {path}")


def evaluations(args, training_args, test_dataset):
    """Rows to evaluate on (`dict[str, datasets.Dataset]`) by name, each with a blind twin if that is asked for."""
    from ..data.loading import BAD_ROWS, load_preferences
    from ..reward.blind import with_exchanged_images

    found = {} if test_dataset is None else {"test": test_dataset}
    for name, path in (args.eval_datasets or {}).items():
        if not isinstance(path, str) or name in found:
            raise ValueError(f"`eval_datasets` must give one path to each name, got {path!r} for {name!r}.")
        found[name] = load_preferences(
            path,
            on_bad_image=training_args.on_bad_image,
            check_images=training_args.check_images,
            bad_rows_file=Path(training_args.output_dir) / f"{name}_{BAD_ROWS}",
        )
    if args.blind_eval:
        found |= {f"{name}_blind": with_exchanged_images(rows, training_args.seed) for name, rows in found.items()}
    return found


if __name__ == "__main__":
    import sys

    from .errors import run_with_one_line_errors

    sys.exit(run_with_one_line_errors(main))
