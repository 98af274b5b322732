"""
The scale of rewards: their mean and standard deviation over the answers that the rows hold, measured once and kept.

The paper normalises the rewards for RLOO and PPO with both, computed beforehand on the alignment set (arXiv
2407.02477). Every process measures its share of the rows.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list, gather_object
from datasets import Dataset
from trl import prepare_multimodal_messages

from ..data.atomic_file import replacing
from ..data.fingerprints import weights_digest
from ..data.images import with_open_images
from ..data.rows import message_text
from ..reward.combined import ANSWERS, NormalizedReward, mean_and_deviation, rewards_of_rows
from ..reward.scorer import RewardModel


logger = logging.getLogger(__name__)

FILE = "reward_scale.json"


def check_answers(dataset: Dataset) -> None:
    """
    Refuse rows without answers to measure rewards of.

    Raises:
        ValueError: they have neither `chosen` nor `rejected` nor `completion`.
    """
    if not set(ANSWERS) & set(dataset.column_names):
        raise ValueError(
            f"`normalize_rewards` measures the rewards of the answers in the rows, which have none ("
            f"{', '.join(ANSWERS)}). Train on rows with answers, or wrap the reward yourself: "
            "`NormalizedReward(function, mean, std)` of `trl_mm.reward.combined`."
        )


def normalize_rewards(trainer: Any, functions: list[Callable[..., Any]], names: list[str]) -> list[Callable[..., Any]]:
    """
    Reward functions on the scale of the training rows. Every process has to call this.

    Args:
        trainer ([`MMRLOOTrainer`]): the trainer; its `args` say how many rows are measured.
        functions (`list[Callable]`): its reward functions.
        names (`list[str]`): what they are logged under.

    Returns:
        `list[NormalizedReward]`: what was measured stands in `reward_scale.json` in the output directory, and is taken
        from there if the same functions were measured on the same rows.

    Raises:
        ValueError: a function is asynchronous, or gives all answers the same reward, or none.
    """
    rows, args = trainer.train_dataset, trainer.args
    if args.normalization_rows is not None and args.normalization_rows < len(rows):
        rows = rows.shuffle(seed=args.seed).select(range(args.normalization_rows))
    key = key_of(rows, functions, names)
    file = Path(args.output_dir) / FILE
    known = [stored(file, key) if trainer.accelerator.is_main_process else None]
    scales = broadcast_object_list(known, from_process=0)[0]
    if scales is None:
        logger.info(f"Rewards of the answers of {len(rows):,} rows are measured, to normalise rewards.")
        scales = [measured_together(trainer, f, name, rows) for f, name in zip(functions, names, strict=True)]
        if trainer.accelerator.is_main_process:
            file.parent.mkdir(parents=True, exist_ok=True)
            with replacing(file, 0) as stream:
                stream.write(json.dumps({**key, "scales": scales}, indent=2).encode())
    for name, (mean, std) in zip(names, scales, strict=True):
        logger.info(f"Reward `{name}`: mean {mean:.4g}, standard deviation {std:.4g}.")
    return [
        NormalizedReward(function, mean, std, name=name)
        for function, name, (mean, std) in zip(functions, names, scales, strict=True)
    ]


def measured_together(trainer: Any, function: Callable[..., Any], name: str, rows: Dataset) -> tuple[float, float]:
    """Mean and standard deviation (`tuple[float, float]`) of all rewards, each process measuring some of the rows."""
    count, index = trainer.accelerator.num_processes, trainer.accelerator.process_index
    own = rows.select(range(index, len(rows), count))
    rewards = rewards_of_rows(as_in_training(trainer, function, name), answered(own, trainer.prompts_are_text))
    return mean_and_deviation(name, gather_object(rewards))


def as_in_training(trainer: Any, function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """The function, given what TRL gives it beside columns of rows."""

    def called(prompts: list[Any], completions: list[Any], **columns: Any) -> Any:
        texts = [text if isinstance(text, str) else message_text(text[0]) for text in completions]
        return function(
            prompts=prompts,
            completions=completions,
            completion_ids=trainer.processing_class.tokenizer(texts, add_special_tokens=False)["input_ids"],
            trainer_state=trainer.state,
            log_extra=_nothing,
            log_metric=_nothing,
            **columns,
        )

    called.__name__ = name
    return called


def answered(rows: Dataset, as_text: bool) -> Iterator[dict[str, Any]]:
    """Rows as reward functions get them in training: images decoded and in the prompt, answers as one message."""
    for stored_row in rows:
        row = with_open_images(dict(stored_row))
        if len(row["images"]) == 1:
            row["image"] = row["images"][0]
        for name in ANSWERS:
            if row.get(name) is not None:
                text = message_text(row[name][-1])
                row[name] = text if as_text else [{"role": "assistant", "content": text}]
        prompt = row["prompt"]
        if as_text:
            row["prompt"] = message_text(prompt[0])
        elif row["images"]:
            row["prompt"] = prepare_multimodal_messages(prompt, images=row["images"])
        yield row


def key_of(rows: Dataset, functions: list[Callable[..., Any]], names: list[str]) -> dict[str, Any]:
    """What a measurement depends on, as far as it can be seen: names, settings, weights of reward models, rows."""
    columns = [name for name in ("row_id", *ANSWERS) if name in rows.column_names]
    digest = hashlib.sha256()
    for batch in rows.select_columns(columns).iter(1000):
        digest.update(json.dumps(batch, sort_keys=True, default=str).encode())
    weights = [weights_digest(f.model) if isinstance(f, RewardModel) else None for f in functions]
    settings = [{} if isinstance(f, RewardModel) else settings_of(f) for f in functions]
    rewards = {"rewards": names, "settings": settings, "weights": weights}
    return {**rewards, "num_rows": len(rows), "rows": digest.hexdigest()}


def settings_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Numbers and texts (`dict[str, Any]`) that a reward was made with, as `{"length": {"target": 60}}`."""
    given = {**getattr(function, "__dict__", {}), **(function.keywords if isinstance(function, partial) else {})}
    return {name: value for name, value in sorted(given.items()) if isinstance(value, str | int | float | None)}


def stored(file: Path, key: Mapping[str, Any]) -> list[tuple[float, float]] | None:
    """Scales (`list[tuple[float, float]]`) that a file holds, if they were measured with this key."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if any(found.get(name) != value for name, value in key.items()):
            logger.warning(f"{file} is of other rewards or rows, which are measured anew.")
            return None
        return [(float(mean), float(std)) for mean, std in found["scales"]]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        logger.warning(f"{file} cannot be read ({error}); rewards are measured anew.")
        return None


def _nothing(*args: Any, **kwargs: Any) -> None:
    """What measuring logs."""
