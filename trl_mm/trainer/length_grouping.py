"""Rows of similar length in one batch, so that little of it is padding."""

import torch
from torch.utils.data import SequentialSampler
from transformers import trainer_pt_utils


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
    """To be inherited beside a trainer of TRL with `fit_report`: `train_sampling_strategy="group_by_length"`."""

    def _get_train_sampler(self, train_dataset=None):
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)
        # transformers would look for a column of lengths, which image rows do not have
        return LengthGroupedSampler(
            self.args.train_batch_size * self.args.gradient_accumulation_steps,
            self.fit_report["train"].kept.total.tolist(),
            self.args.seed if self.args.data_seed is None else self.args.data_seed,
            epoch=lambda: int(self.state.epoch or 0),
        )

    def _get_eval_sampler(self, eval_dataset):
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_eval_sampler(eval_dataset)
        return SequentialSampler(eval_dataset)
