"""Rows of similar length in one batch, so that little of it is padding."""

import torch
from torch.utils.data import SequentialSampler
from transformers import trainer_pt_utils

from .image_grouping import ImageGroupedSampler, row_keys


class LengthGroupedSampler(trainer_pt_utils.LengthGroupedSampler):
    """
    The only change w.r.t. that of transformers is that the order follows from seed and epoch alone: it is the same
    in every process, and in a resumed run. transformers draws it from the global generator, whose state may
    differ between processes.

    Args:
        batch_size (`int`): rows in a step of one process.
        lengths (`list[int]`): tokens of each row.
        seed (`int`): seed of the first epoch.
        epoch (`Callable`): returns the current epoch (`int`). accelerate does not tell the sampler of a resumed run
            with several processes.
    """

    def __init__(self, batch_size, lengths, seed, epoch):
        super().__init__(batch_size, lengths=lengths)
        self.seed = seed
        self.epoch = epoch

    def __iter__(self):
        self.generator = torch.Generator().manual_seed(self.seed + self.epoch())
        return super().__iter__()


class GroupsByLength:
    """
    To be inherited beside a trainer of TRL with `fit_report`: `train_sampling_strategy="group_by_length"` and,
    if its configuration has it, `group_by_image`.
    """

    def _get_train_sampler(self, train_dataset=None):
        args, by_length = self.args, self.args.train_sampling_strategy == "group_by_length"
        by_image = getattr(args, "group_by_image", False)
        if not (by_length or by_image):
            return super()._get_train_sampler(train_dataset)
        # transformers would look for a column of lengths, which image rows do not have
        lengths = self.fit_report["train"].kept.total.tolist() if by_length else None
        order = {
            "seed": args.seed if args.data_seed is None else args.data_seed,
            "epoch": lambda: int(self.state.epoch or 0),
        }
        if by_image:
            rows = self.train_dataset if train_dataset is None else train_dataset
            return ImageGroupedSampler(args.train_batch_size, row_keys(rows), lengths=lengths, **order)
        return LengthGroupedSampler(args.train_batch_size * args.gradient_accumulation_steps, lengths, **order)

    def _get_eval_sampler(self, eval_dataset):
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_eval_sampler(eval_dataset)
        return SequentialSampler(eval_dataset)
