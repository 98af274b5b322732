"""The sampler inside training: timed, and beside what a row has already."""

import time

from ..data.rows import as_parts, has_parts


class TimedSampler:
    """
    A sampler that counts and can leave what a row has already.

    Args:
        sampler ([`BDHSSampler`]): the sampler.
        keep_rejected (`bool`): whether `rejected` stays that of the row, if it has one, and the sampled answer becomes
            `second_rejected`.
    """

    def __init__(self, sampler, keep_rejected):
        self.sampler, self.keep_rejected = sampler, keep_rejected
        self.num_answers = self.seconds = 0

    @property
    def config(self):
        return self.sampler.config

    @property
    def answers_per_second(self):
        return self.num_answers / self.seconds if self.num_answers else 0.0

    def __call__(self, model, rows, step=None):
        start = time.perf_counter()
        pairs = self.sampler(model, rows, step or 0)
        self.seconds += time.perf_counter() - start
        self.num_answers += len(pairs)
        if self.keep_rejected:
            pairs = [with_both(row, pair) for row, pair in zip(rows, pairs, strict=True)]
        # In a column all messages have parts or none has
        return [as_parts(pair) if has_parts(pair) else pair for pair in pairs]


def with_both(row, pair):
    """The pair with the row's own `rejected`, if it has one, and the sampled one as `second_rejected`."""
    return {**pair, "rejected": row.get("rejected") or pair["rejected"], "second_rejected": pair["rejected"]}
