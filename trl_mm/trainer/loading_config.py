"""Settings of trainers whose batches are made by loader workers."""

import logging
import os
import shutil
from dataclasses import dataclass, field

import torch


logger = logging.getLogger(__name__)

MOST_WORKERS = 2  # more begin later, not sooner: each makes a batch of its own
SHARED_MEMORY = "/dev/shm"  # through which workers hand over their batches
LEAST_SHARED_MEMORY = 2**30  # bytes; containers have 64 MB unless told otherwise


@dataclass
class LoadingConfig:
    """
    To be inherited beside a configuration of TRL.

    Args:
        dataloader_num_workers (`int`, *optional*):
            Processes that decode and process images while the model computes, for each process that trains. Defaults
            to 2 on a GPU, to 1 where there are fewer than 3 cores for each GPU, and to 0 (the training process does
            it between steps) on a CPU, or where `/dev/shm` is smaller than 1 GB. Batches do not depend on it.
    """

    dataloader_num_workers: int | None = field(
        default=None,
        metadata={"help": "Processes that make batches while the model computes; by default 2 on a GPU, 0 on a CPU."},
    )

    def __post_init__(self):
        if self.dataloader_num_workers is None:
            self.dataloader_num_workers = default_workers(self.use_cpu)
        super().__post_init__()


def default_workers(use_cpu):
    """Loader workers (`int`) where nobody has said how many; `use_cpu` (`bool`) is whether training does."""
    if use_cpu or not torch.cuda.is_available():
        return 0  # they would take the cores that train
    if os.path.isdir(SHARED_MEMORY) and shutil.disk_usage(SHARED_MEMORY).total < LEAST_SHARED_MEMORY:
        logger.info(
            f"Images are processed between steps, since {SHARED_MEMORY}, through which loader workers hand over their "
            "batches, is smaller than 1 GB. Make it larger (`docker run --shm-size 8g`), or set "
            "`dataloader_num_workers`."
        )
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores_per_process = cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    return max(1, min(MOST_WORKERS, cores_per_process - 1))
