"""How `MMDPOTrainer` has a pair generator make its pairs, at each step or before training."""

from pathlib import Path

import torch
from datasets import Dataset

from ..data.loading import load_preferences
from ..data.tables import undecoded
from .distorted_answer import distorts
from .row_checks import fitting_rows
from .unwrapped_policy import generation_model


def drop_stored_rejected(dataset, generator, name):
    """
    Rows without the `rejected` that is not looked at, so that all processes agree on which pairs are made.

    Args:
        dataset (`datasets.Dataset`, `dict` of them, or `None`): rows.
        generator ([`PairGenerator`]): what makes the pairs.
        name (`str`): `"train"`, or `"eval"`: evaluation takes the pairs that a dataset has, if all its rows are pairs.
    """
    if isinstance(dataset, dict):
        return {key: drop_stored_rejected(part, generator, name) for key, part in dataset.items()}
    if not isinstance(dataset, Dataset) or "rejected" not in dataset.column_names:
        return dataset
    if generator.rejected_weight is not None:
        return dataset
    if name == "train" or dataset.data.column("rejected").null_count:
        return dataset.remove_columns("rejected")
    return dataset


def check_backend(trainer):
    """Refuse to make pairs where a process cannot generate without the others."""
    if trainer.pair_generator is not None and trainer.is_fsdp_enabled and not distorts(trainer.pair_generator):
        raise ValueError(
            "Pairs cannot be made under FSDP, which keeps a part of each weight on every process. Use DDP or "
            "DeepSpeed (`--accelerate_config zero3`), or make the pairs with `trl-mm bdhs`."
        )


def generate_offline(trainer, dataset):
    """
    Make the pairs of all rows with the initial policy, every process its share, or take those that are there.

    Args:
        trainer ([`MMDPOTrainer`]): the trainer, with its models ready.
        dataset (`datasets.Dataset`): SFT rows.

    Returns:
        `datasets.Dataset`: pairs that fit.
    """
    args, accelerator, generator = trainer.args, trainer.accelerator, trainer.pair_generator
    if trainer.is_deepspeed_enabled:
        trainer.model.to(accelerator.device)  # DeepSpeed does so itself, but only when training begins
    with generation_model(trainer) as model, accelerator.autocast():
        if trainer._dummy_image is not None:
            # A process without a share writes no answer. transformers adds hooks to a vision part that it enters, and
            # ZeRO-3 wants those of all processes in the same order
            trainer._dummy_image.encode(model.device)
        folder = generator.make_dataset(
            model,
            trainer.processing_class,
            dataset,
            Path(args.output_dir) / "pairs",
            args.process_index,
            args.world_size,
        )
    accelerator.wait_for_everyone()
    pairs = undecoded(load_preferences(folder, check_images=False))
    log_metrics(trainer, generator.sampling_metrics(pairs), "train")
    return fitting_rows(pairs, trainer.processing_class, args, trainer.fit_report, "train", args.max_length)


def generate_for_batch(trainer, rows):
    """
    Make the pairs of one batch with the current policy.

    Args:
        trainer ([`MMDPOTrainer`]): the trainer.
        rows (`list[dict]`): SFT rows.

    Returns:
        `list[dict]`: pairs.
    """
    if trainer.pair_generator is None:
        raise ValueError("A row has no `rejected` and no callback makes it. Pass a `BDHSDataGenerator`.")
    training = trainer.model.training
    step = trainer.state.global_step if training else None
    with generation_model(trainer) as model, trainer.accelerator.autocast():
        pairs, metrics = trainer.pair_generator.sample(model, trainer.processing_class, rows, step)
    log_metrics(trainer, metrics, "train" if training else "eval")
    return pairs


def log_metrics(trainer, metrics, mode):
    """Put metrics, averaged over processes, next to TRL's; all processes must have the same ones."""
    names = sorted(metrics)
    values = torch.tensor([metrics[name] for name in names], device=trainer.accelerator.device)
    for name, value in zip(names, trainer.accelerator.reduce(values, reduction="mean").tolist(), strict=True):
        trainer._metrics[mode][name].append(value)
