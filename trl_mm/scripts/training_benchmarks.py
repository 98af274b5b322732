"""Benchmarks that `dpo` and `online-dpo` measure during training."""

from dataclasses import fields
from types import SimpleNamespace
from typing import get_args, get_origin, get_type_hints

from .ranges import check_at_least
from .training import as_mapping, check_keys


OTHER_SETTINGS = ("image_folder", "annotations", "max_new_tokens", "batch_size")


def training_benchmarks(args, training_args):
    """
    Read what the arguments say of benchmarks, and check it before a model is loaded.

    Args:
        args ([`TrainingDataArguments`]): which benchmarks, and how often.
        training_args ([`~transformers.TrainingArguments`]): whether there is an evaluation.

    Returns:
        `dict` or `None`: arguments of [`BenchmarkCallback`] besides the trainer.

    Raises:
        ValueError: a benchmark or a setting is unknown or missing, or nothing would ever be measured.
        OSError: a file of a benchmark cannot be read.
    """
    from ..eval.benchmarks import BENCHMARKS, find_benchmark
    from ..eval.small_split import training_questions

    if not args.benchmarks:
        if args.benchmark_settings is not None or args.benchmark_steps is not None:
            raise ValueError(
                "`benchmark_settings` and `benchmark_steps` would do nothing. Set `benchmarks` with them."
            )
        return None
    strategy = getattr(training_args.eval_strategy, "value", training_args.eval_strategy)
    if args.benchmark_steps is None and strategy == "no":
        raise ValueError(
            "`benchmarks` are measured at every evaluation, and there is none. Set `benchmark_steps`, such as 100, or "
            "`eval_strategy`."
        )
    kinds = {name: BENCHMARKS[name] for name in map(find_benchmark, args.benchmarks)}
    given = as_mapping("benchmark_settings", args.benchmark_settings or {}, '{"image_folder": "coco/val2014"}')
    own = {name: [field.name for field in fields(kind)] for name, kind in kinds.items()}
    check_keys("benchmark_settings", given, [*OTHER_SETTINGS, *(name for names in own.values() for name in names)])
    for kind in kinds.values():
        check_lists(kind, given)
    check_at_least(SimpleNamespace(**given), max_new_tokens=1, batch_size=1)
    if "image_folder" not in given:
        raise ValueError("`benchmark_settings` needs `image_folder`, the folder of the benchmarks' images.")
    settings = {
        "benchmarks": {
            name: kind(**{key: given[key] for key in own[name] if key in given}) for name, kind in kinds.items()
        },
        **{name: given[name] for name in OTHER_SETTINGS if name in given},
        "steps": args.benchmark_steps,
        "max_questions": args.benchmark_questions,
        "seed": training_args.seed,
    }
    read = ("benchmarks", "image_folder", "annotations", "max_questions", "seed")
    training_questions(**{name: settings[name] for name in read if name in settings})
    return settings


def check_lists(kind, given):
    """Refuse a text where a setting of a benchmark is a list: its letters would be taken for the entries."""
    for name, hint in get_type_hints(kind).items():
        if list in (get_origin(option) for option in (hint, *get_args(hint))) and isinstance(given.get(name), str):
            raise ValueError(
                f"`benchmark_settings`: `{name}` must be a list, got {given[name]!r}. Write [{given[name]}]."
            )


def add_benchmarks(trainer, settings):
    """Add the callback that measures, given what [`training_benchmarks`] returned."""
    from ..eval.benchmark_callback import BenchmarkCallback

    if settings is not None:
        trainer.add_callback(BenchmarkCallback(trainer, **settings))
