"""The progress bar of BDHS over a dataset: rows of this process, answers per second, attempts, time left."""

from collections import Counter

from tqdm.auto import tqdm


BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} rows [{elapsed}<{remaining}{postfix}]"


class Progress:
    """
    Progress of one process; only the first one shows it. What an earlier run has finished counts as rows, but neither
    for the speed nor for the time left.

    Args:
        num_rows (`int`, *optional*): source rows of all processes; `None` if unknown, as for a stream.
        shard_size (`int`): source rows per shard.
        rank (`int`): this process.
        world_size (`int`): number of processes.
    """

    def __init__(self, num_rows, shard_size, rank, world_size):
        self.num_rows, self.shard_size = num_rows, shard_size
        self.attempts = Counter()
        self.seconds = 0.0
        self.was_made = False
        shards = range(rank, -(-(num_rows or 0) // shard_size), world_size)
        self.bar = tqdm(
            total=None if num_rows is None else sum(self._size(shard) for shard in shards),
            desc="BDHS",
            unit="row",
            smoothing=0,  # shards take long: what the last one took says little about the rest
            bar_format=None if num_rows is None else BAR,
            disable=rank != 0,
        )

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.bar.close()

    def counted(self, rows):
        """Iterate over the rows of a stream."""
        self.num_rows = 0
        for row in rows:
            self.num_rows += 1
            yield row

    def count(self, pairs, seconds):
        """Count the pairs of a shard, made in so many seconds."""
        self.attempts.update(pair["bdhs_attempts"] for pair in pairs)
        self.seconds += seconds
        self.was_made = True

    def on_shard(self, shard, num_rows):
        """Count a finished shard, made in this run or before."""
        size = self._size(shard)
        if not (self.was_made or self.bar.disable):
            self.bar.initial += size
        self.was_made = False
        answers = sum(self.attempts.values())
        if answers:
            shares = (
                f"attempt {attempt}: {self.attempts[attempt] / answers:.0%}" for attempt in sorted(self.attempts)
            )
            self.bar.set_postfix_str(", ".join([f"{answers / self.seconds:.3g} answers/s", *shares]), refresh=False)
        self.bar.update(size)

    def _size(self, shard):
        """Source rows of a shard; of a stream, of the one that was read last."""
        return min(self.shard_size, self.num_rows - shard * self.shard_size)
