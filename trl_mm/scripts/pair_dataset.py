"""Arguments and steps that the commands share which make preference pairs of SFT rows."""

from dataclasses import dataclass, field
from pathlib import Path

from ..data.subset import check_subset
from .preflight import check_writable
from .ranges import check_at_least
from .training import as_mapping


@dataclass(kw_only=True)
class PairArguments:
    """
    Where the rows come from and where the pairs go.

    Args:
        dataset_name (`str`): folder, JSONL, JSON or parquet file, or Hub id of the SFT rows (`images`, `prompt`,
            `chosen`).
        output_dir (`str`): folder of the pairs. A killed run's folder is resumed.
        dataset_split (`str`, *optional*, defaults to `"train"`): split to read.
        image_folder (`str`, *optional*): folder that image paths are relative to; defaults to that of the data.
        converter (`str`, *optional*): what the rows are written like, if not in the row format: name of a converter,
            such as `"llava_instruct"`, or `"auto"` for the one that fits the columns.
        columns (`dict`, *optional*): new names of columns to those that they have: `{"prompt": "question"}`.
        on_bad_image (`str`, *optional*, defaults to `"error"`): `"error"`, or `"skip"` to leave out rows with a
            missing or undecodable image, count them, and list them in `bad_rows.jsonl`.
        images (`str`, *optional*, defaults to `"embed"`): `"embed"` to store the image files in the shards, `"path"`
            to store their paths relative to the image folder, which whoever loads the pairs then passes.
        max_rows (`int`, *optional*): use only the first rows; the others are not looked at.
        shuffle_seed (`int`, *optional*): with `max_rows`, use a random subset instead, drawn with this seed.
        shard_size (`int`, *optional*, defaults to `256`): source rows per shard; what a kill costs at most.
        push_to_hub (`bool`, *optional*, defaults to `False`): whether to push the pairs to the Hub, with a card.
        repo_id (`str`, *optional*): with `push_to_hub`, dataset on the Hub, as `owner/name`.
        private (`bool`, *optional*, defaults to `False`): whether only its owner may see it.
        overwrite (`bool`, *optional*, defaults to `False`): whether to replace the rows and the card of a dataset that
            exists on the Hub, also after an interrupted push.
        license (`str`, *optional*, defaults to `"unknown"`): identifier of the licence, for the card.
    """

    dataset_name: str
    output_dir: str
    dataset_split: str = "train"
    image_folder: str | None = None
    converter: str | None = None
    columns: dict | str | None = None
    on_bad_image: str = field(default="error", metadata={"choices": ["error", "skip"]})
    images: str = field(default="embed", metadata={"choices": ["embed", "path"]})
    max_rows: int | None = None
    shuffle_seed: int | None = None
    shard_size: int = 256
    push_to_hub: bool = False
    repo_id: str | None = None
    private: bool = False
    overwrite: bool = False
    license: str = "unknown"

    def __post_init__(self):
        check_at_least(self, max_rows=1, shard_size=1)
        check_subset(self.max_rows, self.shuffle_seed)
        if self.columns is not None:
            self.columns = as_mapping("columns", self.columns, '{"prompt": "question"}')
        if self.push_to_hub and self.repo_id is None:
            raise ValueError("`push_to_hub` needs `repo_id`. Pass the name of the dataset on the Hub, as owner/name.")
        if not self.push_to_hub and (self.repo_id is not None or self.private or self.overwrite):
            raise ValueError("`repo_id`, `private` and `overwrite` would do nothing. Pass `push_to_hub` with them.")


def check_pair_folder(folder):
    """Refuse a folder for pairs that cannot be written to, or that a trained model is in."""
    check_writable("output_dir", folder)
    if any(Path(folder).glob("*model.safetensors*")):
        raise ValueError(f"`output_dir` ({folder}) holds a trained model. Name another folder for the pairs.")


def reading_options(args):
    """How the rows of [`PairArguments`] are read (`dict`), for [`load_preferences`] and [`stream_preferences`]."""
    return {
        "converter": args.converter,
        "columns": args.columns,
        "split": args.dataset_split,
        "image_folder": args.image_folder,
        "needs": ("images", "prompt", "chosen"),
        "on_bad_image": args.on_bad_image,
    }


def load_sft_rows(args):
    """The rows (`datasets.Dataset`) that [`PairArguments`] name."""
    from ..data.loading import BAD_ROWS, load_preferences

    return load_preferences(
        args.dataset_name,
        max_rows=args.max_rows,
        shuffle_seed=args.shuffle_seed,
        bad_rows_file=Path(args.output_dir) / BAD_ROWS,
        **reading_options(args),
    )


def check_push(args):
    """Find out whether the pairs can be pushed, if they are to be, before anything long begins."""
    from ..data.hub import check_repo

    if args.push_to_hub:
        check_repo(**_target(args))


def push_pairs(args, image_folder):
    """Push the finished pairs, if they are to be; images that the shards refer to by path are embedded then."""
    from ..data.hub import push_preferences

    if args.push_to_hub:
        images = {"image_folder": image_folder} if args.images == "path" else {}
        print(f"Pairs at {push_preferences(args.output_dir, **_target(args), **images, license=args.license)}")


def _target(args):
    return {"repo_id": args.repo_id, "private": args.private or None, "overwrite": args.overwrite}
