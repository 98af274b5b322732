"""`trl-mm reward`: a reward model on image-text pairs."""

from dataclasses import dataclass
from pathlib import Path

from .dry_run import dry_run
from .preflight import check_training
from .training import TrainingDataArguments, as_mapping, load_splits, peft_config, start, train_and_save


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
    """

    eval_datasets: dict | str | None = None
    blind_eval: bool = True

    def __post_init__(self):
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
    train_and_save(trainer, args, model_args)
    if eval_datasets:
        trainer.accelerator.print(summary(eval_datasets, trainer.evaluate()))


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


def summary(names, metrics):
    """Accuracies (`str`), one line for each dataset."""
    lines = [f"{'accuracy':<24}{'seeing':>9}{'blind':>9}"]
    for name in names:
        if not name.endswith("_blind"):
            shown = [metrics.get(f"eval_{name}{ending}_accuracy") for ending in ("", "_blind")]
            lines.append(f"{name:<24}" + "".join("–".rjust(9) if x is None else f"{x:>9.1%}" for x in shown))
    return "\n".join(
        [*lines, "Blind is with the images of other rows: as good as seeing, the model reads the text only."]
    )


if __name__ == "__main__":
    import sys

    from .errors import run_with_one_line_errors

    sys.exit(run_with_one_line_errors(main))
