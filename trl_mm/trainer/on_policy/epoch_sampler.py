"""TRL's order of rows in any epoch, so that a run that resumes in a later one goes on with the rows that are next."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from trl.trainer.utils import RepeatSampler


class EpochRepeatSampler(RepeatSampler):
    """
    The only change w.r.t. TRL's `RepeatSampler` is that a new one begins with the order of the present epoch, and not
    with that of the first.

    Args:
        data_source (`datasets.Dataset`): the rows.
        epoch (`Callable[[], int]`): says which epoch begins.
        **settings: as in `RepeatSampler`.
    """

    def __init__(self, data_source: Any, epoch: Callable[[], int], **settings: Any):
        super().__init__(data_source, **settings)
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        if self.shuffle:
            self.generator.manual_seed(self.seed)
            for _ in range(self.epoch()):
                torch.randperm(self.num_samples, generator=self.generator)
        return super().__iter__()
