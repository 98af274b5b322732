"""Rows of similar length in one batch, so that little of it is padding."""

import torch
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
