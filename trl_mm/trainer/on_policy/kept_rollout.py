"""A rollout that several optimizer steps train on, kept in checkpoints that are saved between these steps.

What is unusual in it: prompts and images are not kept. Training resumes with the same rows, which are made anew.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from .rollout import Rollout


logger = logging.getLogger(__name__)


def file_of(folder: str | Path, process_index: int) -> Path:
    """Where a process keeps its rollout in a checkpoint."""
    return Path(folder) / f"rollout_{process_index}.pth"


def keep_rollout(path: Path, steps: Sequence[Mapping[str, Any]], step: int) -> None:
    """
    Write a rollout.

    Args:
        path (`Path`): the file.
        steps (`list[dict]`): its batches, one for each step.
        step (`int`): batches that this process has trained on since training began.
    """
    rollouts = [batch["rollout"] for batch in steps]
    content = {
        "step": step,
        "row_ids": [str(row["row_id"]) for row in rollouts[0].rows],
        "numbers": [rollout.numbers for rollout in rollouts],
        "places": [rollout.places for rollout in rollouts],
        "tensors": [{name: value.cpu() for name, value in b.items() if torch.is_tensor(value)} for b in steps],
    }
    torch.save(content, path)


def kept_step(path: Path) -> int:
    """Batches that the process had trained on (`int`); 0 without a file: its checkpoint ends with a rollout."""
    return _content(path)["step"] if path.is_file() else 0


def kept_steps(path: Path, rollout: Rollout, device: torch.device) -> list[dict[str, Any]] | None:
    """
    Batches of a rollout that was kept.

    Args:
        path (`Path`): the file.
        rollout ([`Rollout`]): the prompts, made anew from the rows of the batch.
        device (`torch.device`): where tensors go.

    Returns:
        `list[dict]`: the batches; `None` if these are other rows, as with another number of processes.
    """
    content = _content(path)
    if content["row_ids"] != [str(row["row_id"]) for row in rollout.rows]:
        logger.warning("%s is of other rows than training resumes with, so answers are sampled anew.", path)
        return None
    return [
        {
            **{name: value.to(device) for name, value in tensors.items()},
            "rollout": Rollout(rollout.rows, rollout.prompts, numbers, places),
        }
        for tensors, numbers, places in zip(content["tensors"], content["numbers"], content["places"], strict=True)
    ]


def _content(path):
    return torch.load(path, weights_only=True)
