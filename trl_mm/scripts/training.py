"""What the commands that train share: their rows, and what becomes of the trained model."""

import logging
from dataclasses import dataclass
from pathlib import Path

from ..data.subset import check_subset
from .launch_checks import check_quantization, check_saving, splits_weights
from .mixtures import as_list, load_mixture, read_parts
from .models import check_base, check_model_path, check_whole_model
from .output_lock import alone_in
from .ranges import check_at_least, check_positive


logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class TrainingDataArguments:
    """
    Which rows a command trains on.

    Args:
        dataset_name (`str`, *optional*): folder, file or Hub id of the rows. Needed, or `datasets`.
        datasets (`list[dict]`, *optional*): in place of it, several datasets. Each has settings of its own
            ([`MixturePartSettings`]): `[{"path": "povid", "max_rows": 5000}, {"path": "rlhf_v", "weight": 2}]`.
            `converter`, `columns`, `image_folder` and the splits are for those that say nothing there, `max_rows` is
            for all together.
        dataset_train_split (`str`, *optional*, defaults to `"train"`): split to train on.
        dataset_test_split (`str`, *optional*): split to evaluate on, if any.
        image_folder (`str`, *optional*): folder that image paths are relative to; defaults to that of the data.
        converter (`str`, *optional*): what the rows are written like, if not in the row format: name of a converter,
            such as `"llava_instruct"`, or `"auto"` for the one that fits the columns.
        columns (`dict`, *optional*): new names of columns to those that they have: `{"prompt": "question"}`.
        max_rows (`int`, *optional*): train on the first rows only; the others are not looked at.
        shuffle_seed (`int`, *optional*): with `max_rows`, train on a random subset instead, drawn with this seed.
        benchmarks (`list[str]`, *optional*): benchmarks of `trl-mm eval` to measure during training on a small split,
            such as `[pope]`, logged as `eval/pope_f1` and so on.
        benchmark_steps (`int`, *optional*): measure them every so many optimizer steps; by default at every
            evaluation.
        benchmark_questions (`int`, *optional*, defaults to `300`): most questions of each.
        benchmark_settings (`dict`, *optional*): their settings by the names of `trl-mm eval`, `image_folder` among
            them: `{"image_folder": "coco/val2014", "pope_files": ["coco_pope_adversarial.json"]}`.
        accelerate_config (`str`, *optional*): name or path of an accelerate config; the command line launches with it.
        dry_run (`bool`, *optional*, defaults to `False`): whether to stop before weights are loaded and anything is
            written, after saying how the rows fit, what trains, and the steps and the memory that it would take.
        gpu (`str`, *optional*): with `dry_run`, a GPU whose time for a step and for the run is estimated: `"H200"`, by
            a measured rate, or H100, A100, L40S, A10, L4, by published ones.
    """

    dataset_name: str | None = None
    datasets: list | str | None = None
    dataset_train_split: str = "train"
    dataset_test_split: str | None = None
    image_folder: str | None = None
    converter: str | None = None
    columns: dict | str | None = None
    max_rows: int | None = None
    shuffle_seed: int | None = None
    benchmarks: list[str] | None = None
    benchmark_steps: int | None = None
    benchmark_questions: int = 300
    benchmark_settings: dict | str | None = None
    accelerate_config: str | None = None
    dry_run: bool = False
    gpu: str | None = None

    def __post_init__(self):
        self.datasets = as_list(self.datasets)
        if (self.dataset_name is None) == (self.datasets is None):
            raise ValueError(
                "`dataset_name` is missing: name the folder, the file or the Hub id of the rows, or several in "
                "`datasets`."
                if self.datasets is None
                else "There are `dataset_name` and `datasets`. Leave one out; `--datasets null` takes back a recipe's."
            )
        if self.datasets is not None:
            read_parts(self.datasets)
        check_gpu(self.gpu, self.dry_run)
        check_subset(self.max_rows, self.shuffle_seed)
        check_at_least(self, benchmark_steps=1, benchmark_questions=1)
        if self.columns is not None:
            self.columns = as_mapping("columns", self.columns, '{"prompt": "question"}')


def start(parser, run, argv=None, launch=None, folders=()):
    """
    Begin a command that trains: parse its arguments, check them, and run it, alone in its folders.

    Args:
        parser ([`~trl.TrlParser`]): of [`TrainingDataArguments`], training arguments and [`~trl.ModelConfig`].
        run (`Callable`): the command, given what is parsed, `argv`, and for `--dry_run` also `launch`.
        argv (`list[str]`, *optional*): the command line; defaults to that of the process.
        launch (`dict`, *optional*): accelerate's YAML, from `trl-mm` for `--dry_run`.
        folders (`Sequence[str]`, *optional*): settings that name folders which the run writes to.
    """
    args, training_args, model_args = parser.parse_args_and_config(argv, fail_with_unknown_args=True)

    check_model_path(model_args.model_name_or_path)
    check_numbers(training_args)
    if getattr(args, "eval_only", False):
        check_base(model_args.model_name_or_path)
    else:
        check_whole_model(model_args.model_name_or_path)
        check_evaluation(args, training_args)
        check_output(training_args.output_dir, model_args.use_peft)
    check_quantization(model_args, splits_weights(training_args))
    set_model_init_kwargs(training_args, model_args)
    if args.dry_run:
        run(args, training_args, model_args, argv, launch)
        return
    with alone_in(output_dir=training_args.output_dir, **{name: getattr(args, name) for name in folders}):
        run(args, training_args, model_args, argv)


def load_splits(args, training_args, needs):
    """
    Load the rows to train on and those to evaluate on.

    Args:
        args ([`TrainingDataArguments`]): which.
        training_args ([`~transformers.TrainingArguments`]): what becomes of bad images.
        needs (`Sequence[str]`): columns that rows must have.

    Returns:
        `tuple`: two `datasets.Dataset`, the second `None` without a `dataset_test_split` or a `test_split`.
    """
    if args.datasets is not None:
        return load_mixture(args, training_args, needs)

    from ..data.tables import check_some_images

    subset = {"max_rows": args.max_rows, "shuffle_seed": args.shuffle_seed}
    train = load_split(args, training_args, needs, args.dataset_train_split, **subset)
    check_some_images(train, args.dataset_name)
    test = args.dataset_test_split
    return train, load_split(args, training_args, needs, test) if test else None


def load_split(args, training_args, needs, split, **subset):
    """One split (`datasets.Dataset`) of `dataset_name`; arguments as in [`load_splits`]."""
    from ..data.loading import BAD_ROWS, load_preferences

    return load_preferences(
        args.dataset_name,
        converter=args.converter,
        columns=args.columns,
        split=split,
        image_folder=args.image_folder,
        needs=needs,
        on_bad_image=training_args.on_bad_image,
        check_images=training_args.check_images,
        bad_rows_file=Path(training_args.output_dir)
        / (BAD_ROWS if split == args.dataset_train_split else f"{split}_{BAD_ROWS}"),
        **subset,
    )


def set_model_init_kwargs(training_args, model_args):
    """Put what the model is loaded with into the training arguments, where TRL's trainers look for it."""
    training_args.model_init_kwargs = {
        "revision": model_args.model_revision,
        "attn_implementation": model_args.attn_implementation,
        "dtype": model_args.dtype,
        **(training_args.model_init_kwargs or {}),
    }


def peft_config(model_args):
    """[`~peft.LoraConfig`] of the model arguments or `None`, as TRL makes it, with the base's revision."""
    from trl import get_peft_config

    config = get_peft_config(model_args)
    if config is not None:
        config.revision = model_args.model_revision
        if config.use_dora:
            logger.warning(
                "`use_dora`: transformers 5.23 does not find the magnitudes of an adapter when it loads one. Fold the "
                "adapter into its base with `trl-mm merge` before it is evaluated or used."
            )
    return config


def train_and_save(trainer, args, model_args, evaluate=None):
    """
    Say how the rows fit and what trains, train, save the model, evaluate it if that is asked for, by a function, write
    its card, and push it if that is asked for.
    """
    from accelerate.utils import is_peft_model

    from ..trainer.checkpoints import explained_if_full
    from ..trainer.model_card import changed_settings
    from ..trainer.parts.parameter_groups import trained_parts_table

    training_args = trainer.args
    trainer.recipe = {**changed_settings(model_args), **changed_settings(args)}
    check_saving(trainer.accelerator.state)
    for report in trainer.fit_report.values():
        trainer.accelerator.print(report)
    trainer.accelerator.print(trained_parts_table(trainer.model, training_args))
    try:
        trainer.train(resume_from_checkpoint=training_args.resume_from_checkpoint)
    except KeyboardInterrupt as stopped:
        raise KeyboardInterrupt(str(stopped) or how_far(trainer)) from None
    with explained_if_full(Path(training_args.output_dir), Path(training_args.output_dir)):
        trainer.save_model(training_args.output_dir)
        if evaluate is not None:
            evaluate()
        trainer.save_state()
        trainer.create_model_card()  # after `save_model`, in which PEFT rewrites the one that is there
    folder = training_args.output_dir
    if is_peft_model(trainer.model):
        trainer.accelerator.print(
            f"Adapter in {folder}; `trl-mm merge --model_name_or_path {folder} --output_dir …` folds it into its base"
        )
    else:
        trainer.accelerator.print(f"Model in {folder}")
    if training_args.push_to_hub:
        trainer.push_to_hub()


def how_far(trainer):
    """What a stopped training has reached, and how it is resumed (`str`)."""
    state, saved = trainer.state, trainer.last_checkpoint
    at = f"Stopped after step {state.global_step} of {state.max_steps}." if state.max_steps else "Stopped."
    if saved is None:
        return f"{at} No checkpoint is complete: the same command starts from the beginning."
    from_there = "true" if saved.parent == Path(trainer.args.output_dir).resolve() else saved
    return f"{at} {saved.name} is complete: `--resume_from_checkpoint {from_there}` resumes from there."


def check_output(folder, use_peft):
    """Refuse to put an adapter beside a full model or the other way round: nobody could tell which is loaded."""
    other = "model.safetensors" if use_peft else "adapter_model.safetensors"
    if (Path(folder) / other).exists():
        kind = "a full model" if use_peft else "an adapter"
        raise ValueError(
            f"`output_dir` ({folder}) holds {other}, {kind} of another run. Use another folder, or delete this one."
        )


def check_gpu(name, dry_run):
    """Refuse a GPU (`str`, *optional*) that nothing is known of, or that nobody asks about."""
    if name is None:
        return
    from ..bench.duration import known_gpu

    known_gpu(name)
    if not dry_run:
        raise ValueError(f"`gpu` ({name}) is for `--dry_run`, which estimates the time on it. Leave it out.")


def check_numbers(training_args):
    """Refuse numbers of training that make no sense, before anything is loaded."""
    check_at_least(
        training_args,
        per_device_train_batch_size=1,
        per_device_eval_batch_size=1,
        gradient_accumulation_steps=1,
        dataloader_num_workers=0,
        max_length=1,
        max_new_tokens=1,
        max_completion_length=1,
        num_iterations=1,
        steps_per_generation=1,
        seed=0,
        learning_rate=0.0,
        weight_decay=0.0,
        max_grad_norm=0.0,
    )
    check_positive(training_args, "num_train_epochs")


def check_evaluation(args, training_args):
    """Refuse an evaluation without rows, before anything is loaded."""
    strategy = getattr(training_args.eval_strategy, "value", training_args.eval_strategy)
    tests = [args.dataset_test_split, getattr(args, "eval_datasets", None)]
    tests += [part.get("test_split") for part in args.datasets or []]
    if strategy != "no" and not any(tests):
        raise ValueError(
            f"`eval_strategy: {strategy}` evaluates, but there are no rows for it. Name their split in "
            "`dataset_test_split`, or set `eval_strategy: 'no'`."
        )


def as_mapping(name, settings, example):
    """A mapping of settings (`dict`) from a recipe, or from its JSON on the command line."""
    import json

    if isinstance(settings, str):
        try:
            settings = json.loads(settings)
        except ValueError as error:
            raise ValueError(f"`{name}` ({settings}) is no JSON: {error}. Write '{example}'.") from error
    if not isinstance(settings, dict):
        raise ValueError(f"`{name}` must be a mapping of settings, got {settings!r}.")
    return settings


def check_keys(name, settings, known):
    """Refuse settings with a key that is not among the `known` ones, naming the nearest."""
    import difflib

    for key in settings:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f" Did you mean `{near[0]}`?" if near else ""
            raise ValueError(f"`{name}` has no setting {key!r}.{hint} Known: {', '.join(known)}.")
