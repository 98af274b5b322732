"""`trl-mm convert`: a published preference dataset to rows of the format, as parquet shards."""

import argparse
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from ..data.row_filters import parse_where
from ..data.subset import check_subset
from .output_lock import alone_in
from .preflight import check_writable
from .ranges import check_at_least
from .training import as_mapping


@dataclass(kw_only=True)
class ConvertArguments:
    """
    Arguments of `trl-mm convert`.

    Args:
        dataset_name (`str`, *optional*): folder, JSONL, JSON or parquet file, or Hub id of the rows. Needed; it may
            also stand without `--dataset_name`.
        output_dir (`str`, *optional*): folder for the shards, their card and `bad_rows.jsonl`. Needed. A killed run's
            folder is resumed.
        dataset_split (`str`, *optional*, defaults to `"train"`): split to read.
        converter (`str`, *optional*, defaults to `"auto"`): what the rows are written like: name of a converter, or
            `"auto"` for the one that fits the columns.
        columns (`dict`, *optional*): new names of columns to those that they have: `{"prompt": "question"}`.
        image_folder (`str`, *optional*): folder that image paths are relative to; defaults to that of the data. Images
            of COCO and Visual Genome are found in their usual places in it.
        where (`list[str]`, *optional*): only rows with these values, as `column=value`, such as `source=coco`; with a
            column named twice, either value will do.
        min_rating_gap (`float`, *optional*): only rows whose `chosen_rating` is higher than their `rejected_rating` by
            this.
        skip_safety (`bool`, *optional*, defaults to `False`): whether to leave out rows about safety (`is_safety`),
            such as those of SPA-VL, where a refusal may be the better answer.
        max_rows (`int`, *optional*): write only the first rows of those that would be written otherwise.
        shuffle_seed (`int`, *optional*): with `max_rows`, write a random subset instead, drawn with this seed. The
            source is then read twice.
        test_share (`float`, *optional*): share of the images that are held out: their rows go to the split `test`, in
            a folder of its own beside `train`, which shares no image with it. The source is read once for each.
        check_images (`bool`, *optional*, defaults to `True`): whether to decode every image once: only this shows a
            broken one.
        strict (`bool`, *optional*, defaults to `False`): whether a row that is bad or left out is an error. Otherwise
            it is counted, and listed in `bad_rows.jsonl`.
        shard_size (`int`, *optional*, defaults to `256`): rows per shard; what a kill costs at most.
        push_to_hub (`bool`, *optional*, defaults to `False`): whether to push the rows to the Hub, with a card.
        repo_id (`str`, *optional*): with `push_to_hub`, dataset on the Hub, as `owner/name`.
        private (`bool`, *optional*, defaults to `False`): whether only its owner may see it.
        overwrite (`bool`, *optional*, defaults to `False`): whether to replace the rows and the card of a dataset that
            exists on the Hub, also after an interrupted push.
        license (`str`, *optional*, defaults to `"unknown"`): identifier of the licence, for the card.
    """

    dataset_name: str | None = None
    output_dir: str | None = None
    dataset_split: str = "train"
    converter: str = "auto"
    columns: dict | str | None = None
    image_folder: str | None = None
    where: list[str] | None = None
    min_rating_gap: float | None = None
    skip_safety: bool = False
    max_rows: int | None = None
    shuffle_seed: int | None = None
    test_share: float | None = None
    check_images: bool = True
    strict: bool = False
    shard_size: int = 256
    push_to_hub: bool = False
    repo_id: str | None = None
    private: bool = False
    overwrite: bool = False
    license: str = "unknown"

    def __post_init__(self):
        if self.dataset_name is None or self.output_dir is None:
            name = "dataset_name" if self.dataset_name is None else "output_dir"
            raise ValueError(f"`{name}` is missing: `trl-mm convert NAME_OR_PATH --output_dir DIR`.")
        check_at_least(self, max_rows=1, shard_size=1, min_rating_gap=0.0, test_share=0.0)
        check_subset(self.max_rows, self.shuffle_seed)
        if self.test_share is not None and not 0 < self.test_share < 1:
            raise ValueError(f"`test_share` must be between 0 and 1, got {self.test_share}.")
        if Path(self.dataset_name).is_dir() and Path(self.output_dir).resolve() == Path(self.dataset_name).resolve():
            raise ValueError(f"`output_dir` ({self.output_dir}) is the folder of the rows. Name another one.")
        if self.columns is not None:
            self.columns = as_mapping("columns", self.columns, '{"prompt": "question"}')
        if isinstance(self.where, dict):  # as a recipe may have it
            self.where = [f"{column}={value}" for column, value in self.where.items()]
        parse_where(self.where or [])
        if self.push_to_hub and self.repo_id is None:
            raise ValueError("`push_to_hub` needs `repo_id`. Pass the name of the dataset on the Hub, as owner/name.")
        if not self.push_to_hub and (self.repo_id is not None or self.private or self.overwrite):
            raise ValueError("`repo_id`, `private` and `overwrite` would do nothing. Pass `push_to_hub` with them.")


class PositionalName(argparse.Action):
    """`NAME_OR_PATH` in place of `--dataset_name NAME_OR_PATH`."""

    def __call__(self, parser, namespace, values, option_string=None):
        if values is not None:
            namespace.dataset_name = values


def make_parser():
    from .recipe_parser import RecipeParser

    usage = "trl-mm convert NAME_OR_PATH --output_dir DIR [flags]"
    parser = RecipeParser((ConvertArguments,), prog="trl-mm convert", usage=usage)
    # No `dest`: a recipe's `dataset_name` as its default would win over the flag.
    parser.add_argument(
        argparse.SUPPRESS,
        metavar="NAME_OR_PATH",
        nargs="?",
        action=PositionalName,
        help="The same as --dataset_name.",
    )
    return parser


def main(argv=None):
    (args,) = make_parser().parse_args_and_config(argv, fail_with_unknown_args=True)

    check_writable("output_dir", args.output_dir)
    with alone_in(output_dir=args.output_dir):
        run(args, shlex.join(["trl-mm", "convert", *(sys.argv[1:] if argv is None else argv)]))


def run(args, command):
    from ..data.conversion_tally import summary_lines
    from ..data.converted_shards import write_converted
    from ..data.hub import check_repo, push_preferences
    from ..data.subset import subset_positions

    push = {"repo_id": args.repo_id, "private": args.private or None, "overwrite": args.overwrite}
    if args.push_to_hub:  # a refused token, before hours of work
        check_repo(**push)
    make_rows, found = open_rows(args)
    positions = None if args.max_rows is None else range(args.max_rows)
    if args.shuffle_seed is not None or args.image_folder is not None:
        survey = make_rows(desc="Counting")
        num_rows = sum(1 for _ in survey)
        say_images(survey.tally, args.image_folder)
        if args.shuffle_seed is not None:
            positions = subset_positions(num_rows, args.max_rows, args.shuffle_seed)
    names = (
        "columns",
        "where",
        "min_rating_gap",
        "skip_safety",
        "max_rows",
        "shuffle_seed",
        "test_share",
        "check_images",
    )
    chosen = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    summary = write_converted(
        make_rows(positions=positions, test_share=args.test_share, check_images=args.check_images),
        args.output_dir,
        {"dataset": args.dataset_name, "dataset_split": args.dataset_split, "convert": {**found, **chosen}},
        shard_size=args.shard_size,
        command=command,
        license=args.license,
    )
    print("\n".join([*summary_lines(summary), f"Rows in {args.output_dir}"]))
    if args.push_to_hub:
        print(f"Rows at {push_preferences(args.output_dir, **push, license=args.license)}")


def open_rows(args):
    """What makes [`ConvertedRows`] of the source, and what was found out about it (`dict`), for the manifest."""
    import datasets

    from ..data.conversion import ConvertedRows
    from ..data.converter_choice import AUTO, RenamedColumns, check_columns, choose_converter, needs_of, recognised
    from ..data.reader import RowReader
    from ..data.row_filters import RowFilter
    from ..data.rows import PREFERENCE_COLUMNS
    from ..data.source_rows import SourceRows
    from ..data.sources import BAD_ROWS

    source = SourceRows(args.dataset_name, args.dataset_split)
    source.check()
    first = source.first()
    check_columns(args.columns or {}, first)
    name = args.converter
    if name == AUTO:
        renamed = [RenamedColumns(args.columns or {}).renamed(row) for row in first]
        name = recognised(renamed, source.locate, PREFERENCE_COLUMNS)
    converter = choose_converter(name, args.columns, first, source.locate, PREFERENCE_COLUMNS)
    needs = needs_of(first, converter)
    kind = "preference rows" if needs == PREFERENCE_COLUMNS else "SFT rows: there is no `rejected`"
    if first:  # otherwise nothing is known of them
        print(f"Converter: {name or 'none, the rows are in the format'}. They are {kind}.")
    folder = args.image_folder or source.folder or datasets.config.HF_CACHE_HOME
    reader = RowReader(converter, folder, needs, "skip", source.locate)
    row_filter = RowFilter(parse_where(args.where or []), args.min_rating_gap, args.skip_safety)

    def make_rows(**options):
        bad_rows_file = Path(args.output_dir) / BAD_ROWS
        return ConvertedRows(source, reader, bad_rows_file, row_filter=row_filter, strict=args.strict, **options)

    return make_rows, {"converter": name, "needs": needs}


def say_images(tally, image_folder):
    """Say how many images there are before they are decoded; refuse a folder that has none of them."""
    where = "" if image_folder is None else f" in {image_folder}"
    print(f"Images: {tally.images_found:,} found{where}, {tally.images_missing:,} missing.")
    if image_folder is not None and tally.images_missing and not tally.images_found:
        raise ValueError(
            f"`image_folder` ({image_folder}) has none of the images that the rows name. Pass the folder that holds "
            "them, or the one above train2014 or VG_100K; bad_rows.jsonl in `output_dir` has their paths."
        )


# What determines the rows, beside the source
CHOOSING = "columns where min_rating_gap skip_safety max_rows shuffle_seed test_share check_images".split()


if __name__ == "__main__":
    from .errors import run_with_one_line_errors

    sys.exit(run_with_one_line_errors(main))
