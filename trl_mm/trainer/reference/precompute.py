"""What `MMDPOTrainer` does for `precompute_ref_log_probs`, which TRL refuses with images."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from huggingface_hub.constants import HF_HOME
from torch.utils.data import DataLoader
from trl.models.utils import prepare_deepspeed

from .cache import cached_log_probs, with_log_probs
from .cache_key import reference_digest, reference_key


# TRL refuses to compute reference log-probabilities before training if it finds a column `images`
HIDDEN_IMAGES = "images of trl_mm"


def check_precomputing(args, pair_generator):
    """
    Refuse what cannot go with reference log-probabilities from before training.

    Args:
        args ([`~trl.DPOConfig`]): arguments of the trainer.
        pair_generator ([`PairGenerator`], *optional*): what makes its pairs.

    Raises:
        ValueError: pairs change during training, or image tokens would be cut.
    """
    if not args.precompute_ref_log_probs:
        return
    if pair_generator is not None and pair_generator.online:
        raise ValueError(
            "Pairs that change with the policy have no reference log-probabilities before training. Set "
            "`precompute_ref_log_probs=False`, or `online=False` to make the pairs once."
        )
    if args.max_length is not None and args.truncation_mode == "keep_end":
        # TRL raises this itself for what it takes for a vision dataset
        raise ValueError(
            "`truncation_mode='keep_end'` would cut image tokens. Use 'keep_start', or set `max_length=None`."
        )


def hide_images(dataset):
    """The dataset, or each of a `dict` of them, with its images where TRL does not look for them; `None` is passed."""
    if isinstance(dataset, Mapping):
        return {key: hide_images(part) for key, part in dataset.items()}
    return None if dataset is None else dataset.rename_column("images", HIDDEN_IMAGES)


def with_reference(trainer, dataset, name, batch_size):
    """
    Preference rows with reference log-probabilities, from the cache or computed now. All processes must call this.

    Args:
        trainer ([`MMDPOTrainer`]): the trainer, with its models ready.
        dataset (`datasets.Dataset`): preference rows.
        name (`str`): name of the dataset in `fit_report`, and for messages.
        batch_size (`int`): rows per batch and process.

    Returns:
        `datasets.Dataset`: the rows with `ref_chosen_logps` and `ref_rejected_logps`.

    Raises:
        ValueError: rows have no `rejected`, or a log-probability is not finite.
    """
    if "rejected" not in dataset.column_names or dataset.data.column("rejected").null_count:
        raise ValueError(
            f"Rows of the {name} dataset have no `rejected`, so their reference log-probabilities cannot be "
            "computed before training. Make the pairs with `trl-mm bdhs` and use its output, or set "
            "`precompute_ref_log_probs=False`."
        )
    args, accelerator = trainer.args, trainer.accelerator
    reference = accelerator.unwrap_model(trainer.ref_model or trainer.model)
    key = reference_key(
        dataset,
        # FSDP has sharded the reference by now; TRL has hashed it before
        trainer._precompute_model_hash if trainer.is_fsdp_enabled else reference_digest(reference),
        trainer.processing_class,
        trainer.data_collator,
        max_length=args.max_length,
        ld_alpha=trainer.ld_alpha,
        mixed_precision=accelerator.mixed_precision,
    )
    values = cached_log_probs(
        dataset,
        key,
        args.ref_log_probs_dir or Path(HF_HOME) / "trl_mm" / "ref_log_probs",
        partial(_reference_log_probs, trainer, dataset),
        lengths=trainer.fit_report[name].kept.total,
        batch_size=batch_size,
        accelerator=accelerator,
        name=name,
    )
    return with_log_probs(dataset, values)


def _reference_log_probs(trainer, dataset, batches):
    model = trainer.ref_model or trainer.model
    if trainer.ref_model is None and trainer.is_deepspeed_enabled:
        if trainer._precompute_engine is None:  # places and gathers what DeepSpeed has not placed yet, as TRL does
            trainer._precompute_engine = prepare_deepspeed(trainer.model, trainer.accelerator)
        model = trainer._precompute_engine
    loader = DataLoader(
        dataset,
        batch_sampler=batches,
        collate_fn=trainer.data_collator,
        num_workers=trainer.args.dataloader_num_workers,
        pin_memory=trainer.args.dataloader_pin_memory,
    )
    model.eval()
    for batch in loader:
        yield trainer.compute_ref_log_probs(model, trainer._prepare_batch(batch))
