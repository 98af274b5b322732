"""The figures of [`Anatomy`] on the page: each with what it means for training."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ..data.pair_statistics import histogram, percentiles
from .anatomy import TABLE_1, Anatomy, repeated, table_1
from .page import Page


def add_anatomy(page: Page, datasets: Mapping[str, Anatomy]) -> None:
    """
    Add what datasets are made of, side by side, and plots of the first one.

    Args:
        page ([`Page`]): the page.
        datasets (`Mapping[str, Anatomy]`): figures by the name of the dataset.
    """
    page.heading("What the pairs are made of")
    page.table(
        TABLE_1, [table_1(name, found) for name, found in datasets.items()], caption="As in Table 1 of the paper"
    )
    columns = [_figures(found) for found in datasets.values()]
    names = list(dict.fromkeys(name for column in columns for name in column))
    page.table(
        ["figure", *datasets],
        [[name, *(column.get(name, "") for column in columns)] for name in names],
        caption="Median [5 %, 95 %] where a figure differs from row to row",
    )
    page.text(" ".join(_warnings(next(iter(datasets.values())))))
    _add_plots(page, next(iter(datasets.values())))


def _figures(found: Anatomy) -> dict[str, Any]:
    """Figures by name, as text."""
    images, total = found.images, len(found)
    differences = [c - r for c, r in zip(found.chosen_words, found.rejected_words, strict=True)]
    token_differences = [c - r for c, r in zip(found.chosen_tokens, found.rejected_tokens, strict=True)]
    per_image = list(images.rows_of_images.values())
    turns = sorted(found.turns.items())
    heights, widths = zip(*images.sizes.values(), strict=True) if images.sizes else ((), ())
    figures = {
        "rows": f"{total:,}",
        "distinct prompts": _share(len(found.prompts), total),
        "distinct images": f"{images.distinct:,}",
        "rows of an image": _spread(per_image),
        "messages before the answer": ", ".join(f"{number} in {_share(count, total)}" for number, count in turns),
        "words of chosen": _spread(found.chosen_words),
        "words of rejected": _spread(found.rejected_words),
        "words of chosen less rejected": _spread(differences),
        "tokens of chosen": _spread(found.chosen_tokens),
        "tokens of rejected": _spread(found.rejected_tokens),
        "tokens of chosen less rejected": _spread(token_differences),
        "chosen is the longer one": f"{found.longer_chosen:.1%}",
        "words in common": _spread(found.in_common, 3),
        "first difference": _spread(found.first_difference, 3),
        "similarity": _spread(found.similarity, 3),
        "identical answers": _share(found.identical, total),
        "repeated rows": _share(repeated(found.pairs), total),
        "chosen here and rejected there": _share(found.contradictions, total),
        "refusals among chosen": _share(found.chosen_refusals, total),
        "refusals among rejected": _share(found.rejected_refusals, total),
        "languages of chosen": _shares(found.languages),
        "answers in two languages": _share(found.two_languages, total),
        "writing systems of chosen": _shares(found.scripts),
        "height of images": _spread(heights),
        "width of images": _spread(widths),
        "tokens of an image": _spread(list(images.tokens.values())),
        "unreadable images": f"{images.unreadable:,}",
    }
    return {name: text for name, text in figures.items() if text}


def _warnings(found: Anatomy) -> list[str]:
    """What will hinder training, in sentences."""
    total, said = len(found), []
    if abs(found.longer_chosen - 0.5) > 0.15:
        side = "longer" if found.longer_chosen > 0.5 else "shorter"
        share = max(found.longer_chosen, 1 - found.longer_chosen)
        said.append(
            f"The chosen answer is the {side} one in {share:.0%} of the pairs: DPO will learn to answer {side}, and a "
            "longer answer has more room to hallucinate. Compare lengths after training, or choose pairs of like "
            "length."
        )
    if found.identical:
        said.append(f"{_share(found.identical, total)} pairs have two equal answers and teach nothing.")
    if repeated(found.pairs):
        said.append(f"{_share(repeated(found.pairs), total)} rows repeat another one, which then weighs more.")
    if found.contradictions:
        said.append(
            f"{found.contradictions:,} answers are chosen in one row and rejected in another one of the same image "
            "and prompt, as rankings of several answers have it."
        )
    if found.chosen_refusals / total > 0.02:
        said.append(f"{_share(found.chosen_refusals, total)} chosen answers refuse: the model will refuse more often.")
    if found.two_languages / total > 0.02:
        said.append(
            f"{_share(found.two_languages, total)} pairs have answers in two languages: the model learns which "
            "language to write, not what is in the image."
        )
    return said or ["Nothing stands out."]


def _add_plots(page: Page, found: Anatomy) -> None:
    differences = [c - r for c, r in zip(found.chosen_words, found.rejected_words, strict=True)]
    plots: list[tuple[str, Sequence[float], str]] = [
        (
            "Words of chosen less words of rejected",
            differences,
            "Around zero, length says nothing of which answer is better. To the right, DPO learns to write more.",
        ),
        (
            "Words that both answers have",
            found.in_common,
            "To the right, pairs that differ little: the loss falls on what is wrong, which in the paper fights "
            "hallucination best. To the left, answers of different models, from which style is learned, too.",
        ),
        (
            "Place of the first difference, as a share of the shorter answer",
            found.first_difference,
            "What stands before it is the same in both answers and has no gradient: late differences train few.",
        ),
        (
            "Similarity of rejected to chosen",
            found.similarity,
            "Near one, answers that mean nearly the same: small differences, or rejected answers that are not wrong.",
        ),
        (
            "Rows of an image",
            list(found.images.rows_of_images.values()),
            "Rows of one image in one batch share its tokens. Few images with many rows are learned by heart.",
        ),
        (
            "Tokens of an image",
            list(found.images.tokens.values()),
            "Memory and time of a step grow with them. The most decide whether a batch fits.",
        ),
    ]
    for title, values, meaning in plots:
        if values:
            page.bars(title, histogram(values), unit="images" if "Tokens" in title or "Rows" in title else "rows")
            page.text(meaning)


def add_leaks(page: Page, leaks: Mapping[str, Mapping[str, str]], total: int) -> None:
    """
    Add which images show what other images show.

    Args:
        page ([`Page`]): the page.
        leaks (`Mapping[str, Mapping[str, str]]`): for each other dataset or folder, from an image of this dataset to
            the one there that shows the same.
        total (`int`): images of this dataset.
    """
    page.heading("Images that are elsewhere, too")
    page.table(
        ["elsewhere", "images of this dataset", "share", "for example"],
        [
            [name, f"{len(found):,}", f"{len(found) / max(1, total):.1%}", next(iter(found.values()), "")]
            for name, found in leaks.items()
        ],
        caption="By a perceptual hash: a picture is found in another size or format, too; a few may only look alike",
    )
    page.text("A model that was trained on an image of a benchmark is not measured by it: leave these rows out.")


def _spread(values: Sequence[float], digits: int = 0) -> str:
    if not values:
        return ""
    low, middle, high = (f"{value:,.{digits}f}" for value in percentiles(values))
    return f"{middle} [{low}, {high}]"


def _shares(counts: Counter) -> str:
    """The commonest values with their shares."""
    return ", ".join(f"{name} {count / counts.total():.1%}" for name, count in counts.most_common(4))


def _share(count: int, total: int) -> str:
    return f"{count:,} ({count / max(1, total):.1%})"
