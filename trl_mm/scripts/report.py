"""`trl-mm report`: preference pairs to look through, on one HTML page."""

import argparse
import os
import re
from dataclasses import dataclass
from pathlib import Path

from .preflight import check_writable, need_package
from .ranges import check_at_least
from .report_model import check_models, log_probs_of, processor_of_model, shown_model
from .training import as_mapping


@dataclass(kw_only=True)
class ReportArguments:
    """
    Arguments of `trl-mm report`.

    Args:
        path (`str`, *optional*): folder, JSONL, JSON or parquet file, or Hub id of the pairs. Needed; it may also
            stand without `--path`.
        html (`str`, *optional*): the page; defaults to `report.html` in the folder of the pairs, or in the working
            directory if they are no folder that can be written to.
        max_rows (`int`, *optional*, defaults to `1000`): most rows on the page, evenly spread over the dataset.
        image_size (`int`, *optional*, defaults to `192`): longest side of a thumbnail in pixels. A row takes about 10
            kB at most for its images, and its texts.
        dataset_split (`str`, *optional*, defaults to `"train"`): split to read.
        image_folder (`str`, *optional*): folder that image paths are relative to; defaults to that of the data.
        converter (`str`, *optional*): what the rows are written like, if not in the row format: name of a converter,
            or `"auto"` for the one that fits the columns.
        columns (`dict`, *optional*): new names of columns to those that they have: `{"prompt": "question"}`.
        against (`list[str]`, *optional*): folders, files or Hub ids of further pairs, whose figures stand beside.
        leaks (`list[str]`, *optional*): folders of images, such as those of a benchmark, or folders, files or Hub ids
            of other pairs, such as a test split as `PATH:SPLIT`: which images of these pairs are there, too, is found
            by a perceptual hash.
        similarity (`str`, *optional*): id or path of a sentence-transformers model, or `"lexical"`: how alike the two
            answers of each pair are is then shown, too.
        processor (`str`, *optional*): model whose processor counts the tokens of images and answers; defaults to
            `model`.
        model (`str`, *optional*): id or path of a vision-language model, or of a LoRA adapter for one. How likely both
            answers are to it, and how often it would prefer the chosen one, is then shown, of the rows on the page.
        ref_model (`str`, *optional*): with `model`, the reference of its training: implicit rewards are then judged,
            too.
        batch_size (`int`, *optional*, defaults to `4`): with `model`, pairs that go through it together.
        dtype (`str`, *optional*, defaults to `"auto"`): with `model`, data type of the weights; `"auto"` is that of
            the checkpoint.
        system_prompt (`str`, *optional*): with `model`, system message of conversations that have none of their own.
        trust_remote_code (`bool`, *optional*, defaults to `False`): with `model`, whether code from its repository may
            run.
        overwrite (`bool`, *optional*, defaults to `False`): whether to replace a file of that name which is no page of
            `trl-mm`; its own pages are replaced anyway.
    """

    path: str | None = None
    html: str | None = None
    max_rows: int = 1000
    image_size: int = 192
    dataset_split: str = "train"
    image_folder: str | None = None
    converter: str | None = None
    columns: dict | str | None = None
    against: list[str] | None = None
    leaks: list[str] | None = None
    similarity: str | None = None
    processor: str | None = None
    model: str | None = None
    ref_model: str | None = None
    batch_size: int = 4
    dtype: str = "auto"
    system_prompt: str | None = None
    trust_remote_code: bool = False
    overwrite: bool = False

    def __post_init__(self):
        if self.path is None:
            raise ValueError("`path` is missing: `trl-mm report PATH`, with the folder, file or Hub id of the pairs.")
        check_at_least(self, max_rows=1, batch_size=1)
        if not 16 <= self.image_size <= 1024:
            raise ValueError(f"`image_size` must be in [16, 1024] pixels, got {self.image_size}.")
        if self.columns is not None:
            self.columns = as_mapping("columns", self.columns, '{"prompt": "question"}')
        if self.html is None:
            writable = os.path.isdir(self.path) and os.access(self.path, os.W_OK)
            self.html = str(Path(self.path if writable else "", "report.html"))
        if os.path.isdir(self.html):
            raise ValueError(f"`html` must be a file, but `{self.html}` is a folder. Add a name to it.")


# What is said of a row, or of a file that is broken in the middle
OF_A_ROW = re.compile(r", (row|line) \d+: |is not text in UTF-8")
NONE_SCORED = "No row has all of its images, so {} has scored none."


class PositionalPath(argparse.Action):
    """`PATH` in place of `--path PATH`."""

    def __call__(self, parser, namespace, values, option_string=None):
        if values is not None:
            namespace.path = values


def make_parser():
    from .recipe_parser import RecipeParser

    parser = RecipeParser(
        (ReportArguments,),
        cures={"dataset_name": "The pairs stand without a flag: `trl-mm report PATH`, or `--path PATH`."},
        prog="trl-mm report",
        usage="trl-mm report PATH [--html FILE] [flags]",
    )
    # No `dest`: a recipe's `path` as its default would win over the flag `--path`.
    parser.add_argument(
        argparse.SUPPRESS, metavar="PATH", nargs="?", action=PositionalPath, help="The same as --path."
    )
    return parser


def main(argv=None):
    (args,) = make_parser().parse_args_and_config(argv, fail_with_unknown_args=True)

    need_package("matplotlib", "A page with plots")
    need_package("rapidfuzz", "Comparing answers")
    need_package("py3langid", "Telling languages apart")
    if args.leaks:
        need_package("imagehash", "`leaks`")
    check_writable("html", Path(args.html).parent)
    check_models(args)

    from ..report.anatomy import anatomy
    from ..report.image_anatomy import alike
    from ..report.log_probs import judged
    from ..report.page import is_page
    from ..report.pair_page import pair_page, spread

    if os.path.lexists(args.html) and not args.overwrite and not (os.path.isfile(args.html) and is_page(args.html)):
        raise ValueError(
            f"`html` ({args.html}) is there and was not written by `trl-mm report`. Name another file with `--html`, "
            "or pass `--overwrite true`."
        )
    processor = processor_of_model(args)
    similarity, count_image, count_answers = measures(args, processor)
    dataset = load(args, args.path, args.dataset_split)
    anatomies = {
        name: anatomy(
            data,
            similarity=similarity,
            count_image_tokens=count_image,
            count_answer_tokens=count_answers,
            hash_images=bool(args.leaks),
        )
        for name, data in others(args, dataset).items()
    }
    name = next(iter(anatomies))
    found = anatomies[name].images.hashes
    leaks = {place: alike(found, hashes_of(args, place)) for place in args.leaks or []}
    log_probs = log_probs_of(args, processor, dataset, spread(len(dataset), args.max_rows)) if args.model else None
    page, unreadable = pair_page(name, dataset, args.max_rows, args.image_size, anatomies, leaks, log_probs)
    path = page.write(args.html)
    print(f"{page.subtitle}.")
    for place, same in leaks.items():
        print(f"{len(same):,} of {len(found):,} images are in {place}, too.")
    if args.model:
        print("\n".join(judged(log_probs)) if log_probs else NONE_SCORED.format(shown_model(args.model)))
    print(f"{path}, {path.stat().st_size / 1e6:.1f} MB")


def load(args, path, split):
    """The pairs (`datasets.Dataset`) of a folder, a file or the Hub, with images that may be missing."""
    from ..data.loading import load_preferences

    own = path == args.path
    try:
        return load_preferences(
            path,
            split=split,
            image_folder=args.image_folder if own else None,
            converter=args.converter if own else None,
            columns=args.columns if own else None,
            on_bad_image="keep",
        )
    except ValueError as error:
        if not OF_A_ROW.search(str(error)):
            raise
        raise ValueError(
            f"{error} Or look at the others: `trl-mm convert {path} --output_dir …` leaves out what is broken, and "
            "lists it."
        ) from error


def others(args, dataset):
    """This dataset and those that it is compared with (`dict[str, datasets.Dataset]`), by name."""
    named = {shown_name(args.path): dataset}
    for path in args.against or []:
        named[shown_name(path) if shown_name(path) not in named else path] = load(args, path, args.dataset_split)
    return named


def shown_name(path):
    """Last part of a path, or the id of a dataset on the Hub (`str`)."""
    return os.path.basename(os.path.abspath(path)) if os.path.exists(path) else path


def measures(args, processor):
    """
    What is measured only if it is asked for: similarity of answers, tokens of an image by its size, tokens of answers.
    """
    similarity = count_image = count_answers = None
    if args.similarity is not None:
        from ..bdhs.similarity import make_similarity

        similarity = make_similarity(args.similarity)
    if args.processor is not None or processor is not None:
        from ..tokens.image_tokens import ImageTokenCounter
        from ..tokens.processor import vision_processor_of

        counted = processor if args.processor is None else vision_processor_of(args.processor, "`processor`")
        counter = ImageTokenCounter(counted)

        def count_image(size):
            return counter((size,))

        def count_answers(texts):
            ids = counted.tokenizer(texts, add_special_tokens=False, return_attention_mask=False)["input_ids"]
            return list(map(len, ids))

    return similarity, count_image, count_answers


def hashes_of(args, place):
    """Perceptual hashes of the images of a folder, or of other pairs (`PATH` or `PATH:SPLIT`), by name."""
    from ..data.tables import undecoded
    from ..report.image_anatomy import hashes_of_folder, image_anatomy

    path, _, split = place.rpartition(":") if ":" in place and not os.path.exists(place) else (place, "", "train")
    try:
        data = load(args, path, split)
    except (ValueError, FileNotFoundError):
        if os.path.isdir(path):
            return hashes_of_folder(path)
        raise
    return image_anatomy(undecoded(data), hash_images=True).hashes


if __name__ == "__main__":
    import sys

    from .errors import run_with_one_line_errors

    sys.exit(run_with_one_line_errors(main))
