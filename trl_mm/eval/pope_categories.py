"""Scores of POPE by category (random, popular, adversarial, or one published file), and over the categories."""

from collections.abc import Iterable, Mapping, Sequence

from .intervals import bootstrap_ratio, ratio
from .pope_scores import Reading, pope_scores


FIGURES = ("f1", "accuracy", "precision", "recall", "predicted_yes_share")


def pope_categories(
    questions: Sequence[Mapping[str, str]],
    answers: Sequence[str],
    *,
    reading: Reading = "strict",
    seed: int = 0,
) -> dict[str, dict]:
    """
    Scores each category by itself.

    Args:
        questions (`Sequence[Mapping[str, str]]`):
            Rows with `image`, `label` and `category`.
        answers (`Sequence[str]`):
            What the model said to each.
        reading (`str`, *optional*, defaults to `"strict"`):
            How answers are read, as in [`pope_scores`].
        seed (`int`, *optional*, defaults to `0`):
            Seed of the bootstrap over images.

    Returns:
        `dict[str, dict]`: for each category what [`pope_scores`] gives, the `images` of its questions, and 95 %
        `intervals` of its figures.
    """
    results = {}
    for category in dict.fromkeys(question["category"] for question in questions):
        rows = [pair for pair in zip(questions, answers, strict=True) if pair[0]["category"] == category]
        result = pope_scores([answer for _, answer in rows], [row["label"] for row, _ in rows], reading=reading)
        result["images"] = [row["image"] for row, _ in rows]
        parts = _figures(_per_image(result, result["images"]))
        result["intervals"] = {name: bootstrap_ratio(*part, seed=seed) for name, part in parts.items()}
        results[category] = result
    return results


def pope_headline(categories: Mapping[str, dict], *, seed: int = 0) -> dict:
    """
    Figures over all categories, the first of which is what LLaVA and papers after it call POPE.

    Args:
        categories (`Mapping[str, dict]`):
            What [`pope_categories`] gives.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the bootstrap over images.

    Returns:
        `dict`: `pope_f1`, the mean of the F1 of the categories; `pope_accuracy` and `pope_yes_share`, of all questions
        together; and their 95 % intervals as `pope_intervals`.
    """
    parts = pope_parts(categories)
    # One training seed: the first axis of counts with parts is that of seeds
    counts = {name: ([above], [below]) for name, (above, below) in parts.items()}
    return {
        **{name: ratio(*part) for name, part in counts.items()},
        "pope_intervals": {name: bootstrap_ratio(*part, seed=seed) for name, part in counts.items()},
    }


def pope_parts(categories: Mapping[str, dict]) -> dict[str, tuple[list, list]]:
    """
    What the figures over all categories divide by what, per image.

    Args:
        categories (`Mapping[str, dict]`):
            What [`pope_categories`] gives.

    Returns:
        `dict[str, tuple[list, list]]`: counts above and below the line. Those of `pope_f1` have one row per category,
        over the images of all of them: an image that is drawn again is drawn in every category.
    """
    images = list(dict.fromkeys(image for result in categories.values() for image in result["images"]))
    counted = [_figures(_per_image(result, images)) for result in categories.values()]
    return {
        "pope_f1": ([part["f1"][0] for part in counted], [part["f1"][1] for part in counted]),
        "pope_accuracy": _pooled(part["accuracy"] for part in counted),
        "pope_yes_share": _pooled(part["predicted_yes_share"] for part in counted),
    }


def _per_image(result: Mapping, images: Iterable[str]) -> dict[str, list[int]]:
    """Sums over the questions about each image: what was asked, right, said yes to, labelled yes, and both."""
    sums = {image: [0] * 5 for image in images}
    columns = [result[name] for name in ("correct", "predicted_yes", "labelled_yes")]
    for image, right, said, labelled in zip(result["images"], *columns, strict=True):
        counts = (1, right, said, labelled, said * labelled)
        sums[image] = [total + count for total, count in zip(sums[image], counts, strict=True)]
    names = ("asked", "correct", "said", "labelled", "both")
    return dict(zip(names, map(list, zip(*sums.values(), strict=True)), strict=True))


def _figures(counts: Mapping[str, list[int]]) -> dict[str, tuple[list[int], list[int]]]:
    """What each of `FIGURES` divides by what, per image."""
    either = [said + labelled for said, labelled in zip(counts["said"], counts["labelled"], strict=True)]
    pairs = (
        ([2 * both for both in counts["both"]], either),
        (counts["correct"], counts["asked"]),
        (counts["both"], counts["said"]),
        (counts["both"], counts["labelled"]),
        (counts["said"], counts["asked"]),
    )
    return dict(zip(FIGURES, pairs, strict=True))


def _pooled(parts: Iterable[tuple[list[int], list[int]]]) -> tuple[list[int], list[int]]:
    """Sums over the categories, per image."""
    above, below = ([sum(column) for column in zip(*rows, strict=True)] for rows in zip(*parts, strict=True))
    return above, below
