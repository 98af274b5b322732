"""BDHS over a whole dataset: shards that a killed run goes on with. The command and the callback both call this."""

from collections import Counter

from datasets import Image, List
from tqdm.auto import tqdm

from ..data.fingerprints import rows_digest
from ..data.images import open_image
from ..data.shards import write_shards


def make_pairs(model, sampler, dataset, folder, source, *, shard_size=256, rank=0, world_size=1, command=None):
    """
    Write the preference rows of a dataset to parquet shards.

    Args:
        model ([`~transformers.PreTrainedModel`]): the model, unwrapped.
        sampler ([`BDHSSampler`]): the sampler.
        dataset (`datasets.Dataset`): SFT rows.
        folder (`str` or `Path`): folder of the shards; a folder that a killed run left is gone on with.
        source (`dict`): what else determines the pairs (model, ...), for the manifest.
        shard_size (`int`, *optional*, defaults to `256`): source rows per shard.
        rank (`int`, *optional*, defaults to `0`): this process.
        world_size (`int`, *optional*, defaults to `1`): number of processes.
        command (`str`, *optional*): command that makes the pairs, for the manifest.

    Returns:
        `dict` or `None`: the manifest once all shards of all processes are there.

    Raises:
        ValueError: the folder was made with other settings.
    """
    stored = dataset.cast_column("images", List(Image(decode=False)))
    shares = [len(range(start, min(start + shard_size, len(dataset)))) for start in range(0, len(dataset), shard_size)]
    bar = tqdm(total=sum(shares[rank::world_size]), desc="BDHS", unit="row", disable=rank != 0)
    attempts = Counter()

    def transform(rows):
        decoded = [{**row, "images": [open_image(image) for image in row["images"]]} for row in rows]
        pairs = sampler(model, decoded)
        attempts.update(pair["bdhs_attempts"] for pair in pairs)
        return [{**pair, "images": row["images"]} for pair, row in zip(pairs, rows, strict=True)]

    def on_shard(shard, num_rows):
        bar.update(shares[shard])
        if attempts:
            done = sum(attempts.values())
            bar.set_postfix_str(", ".join(f"attempt {n}: {attempts[n] / done:.0%}" for n in sorted(attempts)))

    bdhs = dict(vars(sampler.config))
    if callable(bdhs["similarity"]):
        bdhs["similarity"] = getattr(bdhs["similarity"], "__qualname__", type(bdhs["similarity"]).__qualname__)
    settings = {"bdhs": bdhs, "rows": rows_digest(stored), **source}
    try:
        return write_shards(
            folder,
            stored,
            transform,
            settings,
            shard_size=shard_size,
            rank=rank,
            world_size=world_size,
            on_shard=on_shard,
            command=command,
        )
    finally:
        bar.close()
