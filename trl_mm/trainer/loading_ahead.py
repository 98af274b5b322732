"""
Batches are made while the model computes, and how long a step waits for them is said.

What is unusual in it: a worker is a fork of the training process, which copies each page of its memory that it writes
to for the first time after a fork. That slows the first steps down: workers are started once, not in every epoch.
"""

import itertools
import os
import time
from contextlib import contextmanager

import torch

from ..data.image_forms import ImageError


class LoadsAhead:
    """
    To be inherited beside a trainer of transformers: workers of the training loader live until training ends, batches
    are copied to the GPU while it computes, and the metric `loader_wait` is the time in seconds that the last steps
    waited for their batches, on the mean; 0 if loading hides behind computing.
    """

    _train_loader = None

    def get_train_dataloader(self):
        args = self.args
        given = args.dataloader_persistent_workers
        if args.dataloader_pin_memory:
            # Else the copy of the next batch waits for all that the GPU still has to do
            self.accelerator.dataloader_config.non_blocking = True
        if args.dataloader_num_workers:
            # Tokenizers have used threads, which a fork does not have: they would warn and turn them off
            os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
            # Not for evaluations: transformers would keep the rows of the first one for all
            args.dataloader_persistent_workers = True
        try:
            self._train_loader = super().get_train_dataloader()
        finally:
            args.dataloader_persistent_workers = given
        return self._train_loader

    def _run_epoch(self, *args, **kwargs):
        if self._train_loader is not None and self._train_loader.base_dataloader._iterator is not None:
            # What a new iterator draws as the seed of its workers: without workers every epoch has a new one, and
            # dropout goes on from there
            torch.empty((), dtype=torch.int64).random_()
        return super()._run_epoch(*args, **kwargs)

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        begin = time.perf_counter()
        with errors_of_workers():
            batches = super().get_batch_samples(epoch_iterator, num_batches, device)
        self._metrics["train"]["loader_wait"].append(time.perf_counter() - begin)
        return batches

    def train(self, *args, **kwargs):
        try:
            return super().train(*args, **kwargs)
        finally:
            if self._train_loader is not None:
                self._train_loader.base_dataloader._iterator = None  # ends the workers
                self._train_loader = None


@contextmanager
def errors_of_workers():
    """Say what is wrong with a row as it is said without workers: torch puts the worker's traceback in front."""
    try:
        yield
    except (ImageError, ValueError) as error:
        text = str(error).strip()
        if "in DataLoader worker process" not in text.partition("\n")[0]:
            raise
        # Behind the frames of the last traceback, which are indented; the message may have several lines
        lines = text.rpartition("Traceback (most recent call last):\n")[2].splitlines()
        said = "\n".join(itertools.dropwhile(lambda line: line.startswith(" "), lines))
        raise type(error)(said.partition(": ")[2]) from error
