"""How `MMDPOTrainer` has a pair generator make its pairs, at each step or before training."""

from pathlib import Path

import torch

from ..data.loading import load_preferences
from ..data.partners import partners_of
from ..data.protocols import PairGenerator
from ..data.tables import undecoded
from .distorted_answer import check_distortion, distorts
from .on_policy.unwrapped_policy import generation_model
from .row_checks import fitting_rows


def pair_generator_of(callbacks):
    """The callback that makes pairs ([`PairGenerator`] or `None`); two are a `ValueError`."""
    generators = [callback for callback in callbacks or [] if isinstance(callback, PairGenerator)]
    if len(generators) > 1:
        raise ValueError(f"Only one callback can make pairs, got {[type(g).__name__ for g in generators]}.")
    return generators[0] if generators else None


def check_pair_generator(generator, args, data_collator=None):
    """
    Refuse settings that do not go with pairs made during training.

    Args:
        generator ([`PairGenerator`], *optional*): what makes the pairs.
        args ([`~trl.DPOConfig`]): arguments of the trainer.
        data_collator (`Callable`, *optional*): a collator of the user's own.

    Raises:
        ValueError: reference log-probabilities, or the layout of a batch, would not fit the pairs.
    """
    if generator is None:
        return
    if args.precompute_ref_log_probs and generator.online:
        raise ValueError(
            "Pairs that change with the policy have no reference log-probabilities before training. Set "
            "`precompute_ref_log_probs=False`, or `online=False` to make the pairs once."
        )
    if distorts(generator):
        check_distortion(args, data_collator)
    if generator.rejected_weight is not None and (
        data_collator is not None or args.ld_alpha is not None or args.precompute_ref_log_probs
    ):
        raise ValueError(
            "`rejected_weight` puts a third answer into each batch, which works without `data_collator`, `ld_alpha` "
            "and `precompute_ref_log_probs` only. Leave them out, or `rejected_weight`."
        )


def check_backend(trainer):
    """Refuse to make pairs where a process cannot generate without the others."""
    if trainer.pair_generator is not None and trainer.is_fsdp_enabled and not distorts(trainer.pair_generator):
        raise ValueError(
            "Pairs cannot be made under FSDP, which keeps a part of each weight on every process. Use DDP or "
            "DeepSpeed (`--accelerate_config zero3`), or make the pairs with `trl-mm bdhs`."
        )


def generate_offline(trainer, dataset):
    """
    Make the pairs of all rows with the initial policy, every process its share, or take those that are there. Shares
    may take hours longer than others, so processes wait for one another as long as all live.

    Args:
        trainer ([`MMDPOTrainer`]): the trainer, with its models ready.
        dataset (`datasets.Dataset`): SFT rows.

    Returns:
        `datasets.Dataset`: pairs that fit.

    Raises:
        ConnectionError: another process has given no sign of life for `process_timeout` seconds.
    """
    args, accelerator, generator = trainer.args, trainer.accelerator, trainer.pair_generator
    if trainer.is_deepspeed_enabled:
        trainer.model.to(accelerator.device)  # DeepSpeed does so itself, but only when training begins
    with generation_model(trainer) as model, accelerator.autocast():
        if trainer._dummy_image is not None:
            # A process without a share writes no answer. transformers adds hooks to a vision part that it enters, and
            # ZeRO-3 wants those of all processes in the same order
            trainer._dummy_image.encode(model.device)
        partners = partners_of(accelerator.state, args.process_timeout)
        try:
            folder = generator.make_dataset(
                model,
                trainer.processing_class,
                dataset,
                Path(args.output_dir) / "pairs",
                args.process_index,
                args.world_size,
            )
            partners.wait()
        finally:
            partners.leave()  # a process that failed is not waited for
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
    # In one data type, whichever numbers a process has: another one would not meet its partners
    values = torch.tensor([float(metrics[name]) for name in names], device=trainer.accelerator.device)
    for name, value in zip(names, trainer.accelerator.reduce(values, reduction="mean").tolist(), strict=True):
        trainer._metrics[mode][name].append(value)
