"""The questions of `trl-mm eval`: which of them are asked, and whether their images are there."""

from dataclasses import dataclass
from typing import Any

from ..eval.benchmark import Benchmark
from ..eval.benchmarks import find_benchmark
from .eval_models import named_values


NAMED = 5  # missing images that a message names


@dataclass
class Part:
    """
    One benchmark of a run.

    Args:
        name (`str`): key of the benchmark.
        benchmark ([`~trl_mm.eval.benchmark.Benchmark`]): with the user's settings.
        questions (`list[dict]`): its rows.
        asked (`list[dict]`): what is asked of them; see [`as_asked`].
        digest (`str`): digest of what is asked.
        longest (`int`): most tokens of an answer.
    """

    name: str
    benchmark: Benchmark
    questions: list[dict[str, Any]]
    asked: list[dict[str, Any]]
    digest: str
    longest: int


def parts_of(args, benchmarks, asking):
    """
    All that is asked in a run. What is wrong with the files of the benchmarks is found here, before a model is loaded.

    Args:
        args ([`~trl_mm.scripts.eval.EvalArguments`]): the settings.
        benchmarks (`dict[str, Benchmark]`): the benchmarks, with theirs.
        asking ([`~trl_mm.scripts.eval.AskingArguments`]): how they are asked.

    Returns:
        `list[Part]`
    """
    from ..eval.answers import questions_digest

    truths, folders = read_truths(args.annotations, asking.max_images), image_folders_of(args)
    parts = []
    for name, benchmark in benchmarks.items():
        questions = limited(benchmark.questions(truths, seed=asking.seed), asking.limit)
        asked = as_asked(name, questions, folders[name])
        longest = benchmark.longest_answer(asking.max_new_tokens or benchmark.default_length)
        parts.append(Part(name, benchmark, questions, asked, questions_digest(asked), longest))
    return parts


def read_truths(annotations, max_images):
    """Objects of each image (`dict[str, set[str]]`), or `None` without annotations."""
    from ..eval.objects import load_annotations

    return None if annotations is None else dict(list(load_annotations(annotations).items())[:max_images])


def image_folders_of(args):
    """
    Folder of the images of each benchmark.

    Args:
        args ([`~trl_mm.scripts.eval.EvalArguments`]): the settings.

    Returns:
        `dict[str, str or None]`: for each benchmark of the run.

    Raises:
        ValueError: `image_folders` names no benchmark.
    """
    own = {}
    for name, folder in named_values("image_folders", args.image_folders).items():
        try:
            own[find_benchmark(name)] = folder
        except ValueError as error:
            raise ValueError(f"`image_folders`: {error}") from error
    return {name: own.get(name, args.image_folder) for name in args.benchmarks}


def limited(rows, limit):
    """Rows of the first `limit` images (`int`, *optional*); a row without an image counts like one with its own."""
    if limit is None:
        return rows
    images = [index if row["image"] is None else row["image"] for index, row in enumerate(rows)]
    first = set(list(dict.fromkeys(images))[:limit])
    return [row for row, image in zip(rows, images, strict=True) if image in first]


def as_asked(name, rows, image_folder):
    """
    What is asked of rows: all but their `truth`, with the images where they are.

    Args:
        name (`str`): benchmark, for messages.
        rows (`list[dict]`): its questions.
        image_folder (`str`, *optional*): folder of its images.

    Returns:
        `list[dict]`: the rows, `image` a path, or `None` where there is none.

    Raises:
        ValueError: images are missing or are none, all of them counted; one leaves the folder; or no folder is given.
    """
    paths = found_images(name, dict.fromkeys(row["image"] for row in rows if row["image"] is not None), image_folder)
    return [
        {**{column: value for column, value in row.items() if column != "truth"}, "image": paths.get(row["image"])}
        for row in rows
    ]


def found_images(name, images, image_folder):
    """Paths (`dict[str, str]`) of the images of a benchmark; arguments and errors as in [`as_asked`]."""
    from ..data.image_forms import ImageError
    from ..data.images import image_size, resolve_image
    from ..data.shown import shown

    if images and image_folder is None:
        raise ValueError(
            f"`image_folder` is missing: {name} shows {len(images)} images. Pass the folder that they are in, or "
            f"--image_folders {name}=FOLDER for this benchmark alone."
        )
    paths, problems = {}, {}
    for image in images:
        try:
            paths[image] = resolve_image(image, image_folder)["path"]
            image_size(paths[image])
        except ImageError as error:
            problems[image] = error
    if problems:
        named = ", ".join(shown(repr(image)) for image in list(problems)[:NAMED])
        more = f" and {len(problems) - NAMED} more" if len(problems) > NAMED else ""
        other = (
            " None of them is there: these are questions or annotations of other images than the folder's."
            if len(problems) == len(images) > 1
            else ""
        )
        raise ValueError(
            f"{name}: {len(problems)} of {len(images)} images are missing or cannot be read in {image_folder}: "
            f"{named}{more}.{other} The first: {next(iter(problems.values()))}"
        )
    return paths
