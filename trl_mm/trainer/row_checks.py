"""What is done to a dataset before a trainer gets it: every row is one that can be trained on."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path

from datasets import Dataset, IterableDataset

from ..data.checked import is_checked
from ..data.loading import BAD_ROWS, prepare_preferences
from ..data.mixing import PART
from ..data.rows import INTERNAL_COLUMNS
from ..data.shown import shown_names
from ..data.tables import undecoded
from ..tokens.chat import generation_prompt
from ..tokens.fit_report import FitReport, keep_fitting
from ..tokens.lengths import count_tokens


logger = logging.getLogger(__name__)

MANY_ROWS = 10_000  # that are counted by several processes


def checked_rows(dataset, processor, args, needs, reports, name, max_length, pair_generator=None):
    """
    Rows in the row format that fit; those that cannot be trained on are refused, skipped or dropped. A dataset that
    [`load_preferences`] has checked, and nobody has changed since, only has its tokens counted.

    Args:
        dataset (`datasets.Dataset`, `dict` of them, or `None`): rows.
        processor ([`~transformers.ProcessorMixin`]): processor of the model.
        args ([`MMDPOConfig`] or [`~trl.DPOConfig`]): what becomes of bad rows.
        needs (`tuple[str]`): columns that rows must have.
        reports (`dict`): takes the [`FitReport`] of each dataset.
        name (`str`): name of the dataset, for messages.
        max_length (`int` or `None`): longest sequence in tokens.
        pair_generator ([`PairGenerator`], *optional*): what makes the `rejected` of the rows.

    Raises:
        ValueError: a row is bad, the dataset is a stream, or the rows to train on have several splits.
    """
    if isinstance(dataset, Mapping):
        if name == "train":
            raise ValueError(
                f"`train_dataset` has several splits: {shown_names(dataset)}. Pass the one to train on, such as "
                "`data['train']`."
            )
        return {
            key: checked_rows(part, processor, args, needs, reports, f"{name}_{key}", max_length, pair_generator)
            for key, part in dataset.items()
        }
    if isinstance(dataset, IterableDataset):
        raise ValueError(
            f"The {name} dataset is a stream, whose rows cannot be checked before training. Load it without "
            "`streaming=True`; images stay on disk until they are needed."
        )
    if dataset is None:
        return None
    warn_of_rendered_prompts(dataset, processor, name)
    check_images = args.check_images
    already_checked = is_checked(dataset, needs, check_images)
    if pair_generator is not None:
        dataset = drop_stored_rejected(dataset, pair_generator, name)
    if not already_checked:
        dataset = prepare_preferences(
            dataset,
            needs=needs,
            check_images=check_images,
            on_bad_image=args.on_bad_image,
            bad_rows_file=Path(args.output_dir) / (BAD_ROWS if name == "train" else f"{name}_{BAD_ROWS}"),
            locate=lambda index: (f"{name} dataset", index),
        )
    return fitting_rows(undecoded(without_internal(dataset, name)), processor, args, reports, name, max_length)


def drop_stored_rejected(dataset, generator, name):
    """
    Rows without the `rejected` that is not looked at, so that all processes agree on which pairs are made.

    Args:
        dataset (`datasets.Dataset`): rows.
        generator ([`PairGenerator`]): what makes the pairs.
        name (`str`): name of the dataset. All but `"train"` keep the pairs that they have, if all rows are pairs.
    """
    if not isinstance(dataset, Dataset) or "rejected" not in dataset.column_names:
        return dataset
    if generator.rejected_weight is not None:
        return dataset
    if name == "train" or dataset.data.column("rejected").null_count:
        return dataset.remove_columns("rejected")
    return dataset


def without_internal(dataset, name):
    """Rows without columns that trainers would take for their own; which ones is said."""
    found = [column for column in dataset.column_names if column in INTERNAL_COLUMNS]
    if found:
        logger.warning(
            f"Columns of the {name} dataset are named as what trainers compute, and are left out: {', '.join(found)}. "
            "Rename them to keep them."
        )
    return dataset.remove_columns(found)


def prompts_are_text(dataset):
    """Whether the prompts of a dataset are strings (`bool`), and no messages."""
    return isinstance(dataset, Dataset) and getattr(dataset.features.get("prompt"), "dtype", "") == "string"


def warn_of_rendered_prompts(dataset, processor, name):
    """TRL takes a prompt that is a string as it is; here it is what the user says, and the chat template is put on."""
    if not prompts_are_text(dataset):
        return
    ending = generation_prompt(processor).strip()
    count = sum((prompt or "").rstrip().endswith(ending) for prompt in dataset.with_format(None)["prompt"])
    if ending and count:
        logger.warning(
            f"`prompt` of {count} rows of the {name} dataset ends with {ending!r}, so the chat template has been put "
            "on already, and is put on once more. Give messages, or only what the user says."
        )


def fitting_rows(dataset, processor, args, reports, name, max_length):
    """Rows that fit; how they do is put into `reports`. Every process counts all rows, so all agree."""
    num_proc = args.dataset_num_proc
    if num_proc is None and len(dataset) > MANY_ROWS:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        num_proc = max(1, cores // args.world_size)
    report = reports[name] = FitReport(
        count_tokens(dataset, processor, num_proc, f"The {name} dataset"),
        max_length,
        name,
        args.per_device_train_batch_size if name == "train" else None,
        args.gradient_accumulation_steps,
        dataset[PART] if PART in dataset.column_names else None,
    )
    logger.info(report)
    return keep_fitting(dataset, report, args.overlong)
