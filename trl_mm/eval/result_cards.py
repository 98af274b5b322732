"""Answers of several models to one question, as a card of the results page; and which questions are shown."""

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..data.images import ImageError, open_image
from ..report.gallery import GalleryItem, Mark
from .benchmark import Benchmark
from .results import ModelResults


MAX_CHARACTERS = 1500  # of a text on a card; the rest is counted
MAX_REFERENCE = 500  # characters of what was expected
BENCHMARK, CATEGORY = "benchmark", "category"  # filters
BETTER, WORSE, SAME = "got better", "got worse", "unchanged"
_CATEGORIES = ("category", "question_type", "type", "structural")
_REFERENCES = ("answer", "reference", "gt_answer", "truth")

Scores = Mapping[str, Sequence[float | None]]


def row_scores(models: Sequence[ModelResults], name: str, benchmark: Benchmark) -> dict[str, list[float | None]]:
    """
    How good each answer of each model is.

    Args:
        models (`Sequence[ModelResults]`): the models.
        name (`str`): key of the benchmark.
        benchmark ([`Benchmark`]): the benchmark.

    Returns:
        `dict[str, list[float | None]]`: by model, one score for each of its rows, all `None` where the benchmark has
        no score for single answers.

    Raises:
        ValueError: there are not as many scores as rows.
    """
    found = {}
    for model in models:
        if name not in model.rows or name not in model.scores:
            continue
        asked = len(model.rows[name])
        try:
            scores = list(benchmark.row_scores(model.scores[name]))
        except NotImplementedError:
            scores = [None] * asked
        if len(scores) != asked:
            raise ValueError(f"{name}: {len(scores)} scores of {model.name} for {asked} answers.")
        found[model.name] = scores
    return found


def changes(scores: Scores, first: str) -> dict[str, list[float | None]]:
    """
    What each model but the first scores more than the first, row by row.

    Args:
        scores (`Mapping[str, Sequence[float | None]]`): as [`row_scores`] gives them.
        first (`str`): model that all are compared with.

    Returns:
        `dict[str, list[float | None]]`: by model; `None` where either answer has no score.
    """
    base = scores.get(first)
    return {
        name: [None if x is None or y is None else x - y for x, y in zip(own, base, strict=True)]
        for name, own in scores.items()
        if base is not None and name != first and len(own) == len(base)
    }


def chosen(changed: Mapping[str, Sequence[float | None]], num_rows: int, most: int, seed: int) -> list[int]:
    """
    Which rows are shown: all of few; of many, in one half those that changed most, in the other a draw of the rest.

    Args:
        changed (`Mapping[str, Sequence[float | None]]`): by model, as [`changes`] gives it.
        num_rows (`int`): number of rows.
        most (`int`): most rows to choose.
        seed (`int`): seed of the draw, also among rows that changed alike.

    Returns:
        `list[int]`: numbers of rows, the most changed first, then the others in their order.
    """
    size = [
        max((abs(change) for column in changed.values() if (change := column[i])), default=0.0)
        for i in range(num_rows)
    ]
    order = random.Random(f"{seed} rows of the page").sample(range(num_rows), num_rows)
    order.sort(key=lambda index: -size[index])
    moved = [index for index in order if size[index]]
    if num_rows > most:
        still = [index for index in order if not size[index]]
        moved = moved[: max(most - most // 2, most - len(still))]
        order = random.Random(f"{seed} other rows").sample(sorted(set(order) - set(moved)), most - len(moved))
    return moved + sorted(set(order) - set(moved))


def cards(
    models: Sequence[ModelResults], name: str, benchmark: Benchmark, scores: Scores, rows: Sequence[int]
) -> Iterator[GalleryItem]:
    """
    Cards of the rows: the image, the question, what was expected, and the answers of all models with their marks.

    Args:
        models (`Sequence[ModelResults]`): the models, the first of which all are compared with.
        name (`str`): key of the benchmark.
        benchmark ([`Benchmark`]): the benchmark.
        scores (`Mapping[str, Sequence[float | None]]`): as [`row_scores`] gives them.
        rows (`Sequence[int]`): numbers of the rows.

    Returns:
        `Iterator[GalleryItem]`: images are opened when their card comes; one that cannot be is a text on it.
    """
    asked = [model for model in models if model.name in scores]
    changed = changes(scores, models[0].name)
    binary = all(score in (0, 1) for column in scores.values() for score in column)
    for index in rows:
        row = asked[0].rows[name][index]
        category = category_of(row)
        answers: list[tuple[str, str, list[Mark]]] = [(label, text, []) for label, text in _reference(row)]
        for model in asked:
            own = model.rows[name][index]
            label = f"{model.name}{_verdict(scores[model.name][index], binary)}"
            answers.append((label, *_marked(benchmark, own, own["answer"])))
            if own.get("reply"):
                answers.append((f"judge of {model.name}", _clipped(str(own["reply"])), []))
        values: dict[str, float | str | None] = {BENCHMARK: benchmark.title, CATEGORY: category}
        for other, column in changed.items():
            values[change_filter(other, models[0].name)] = _direction(column[index])
        title = " · ".join(part for part in (benchmark.title, category, f"row {index + 1}") if part)
        yield GalleryItem(_image(row.get("image")), title, answers, _clipped(str(row.get("question", ""))), values)


def change_filter(model: str, first: str) -> str:
    """Name of the filter of what a model does better or worse than the first one."""
    return f"{model} against {first}"


def _direction(change: float | None) -> str | None:
    return None if change is None else BETTER if change > 0 else WORSE if change < 0 else SAME


def _verdict(score: float | None, binary: bool) -> str:
    if score is None:
        return ""
    # + 0.0: minus zero is shown as zero
    return f" · {'right' if score else 'wrong'}" if binary else f" · {score + 0.0:.3g}"


def _marked(benchmark: Benchmark, row: Mapping[str, Any], answer: str) -> tuple[str, list[Mark]]:
    """The answer, and those of its marks that are shown with it; of two that overlap, the first and longer."""
    if not answer.strip():
        return "(empty answer)", []
    marks: list[Any] = []
    for start, end, kind in sorted(benchmark.marks(row, answer), key=lambda mark: (mark[0], -mark[1])):
        if end <= MAX_CHARACTERS and (not marks or start >= marks[-1][1]):
            marks.append((start, end, kind))
    return _clipped(answer), marks


def _image(path: Any) -> Any:
    if not path:
        return "no image"
    try:
        return open_image(path)
    except (ImageError, ValueError) as error:
        return str(error)


def category_of(row: Mapping[str, Any]) -> str | None:
    """Kind of a question (`str`), by whichever name a benchmark has for it; `None` where there are no kinds."""
    truth = row.get("truth")
    for source in (row, truth if isinstance(truth, Mapping) else {}):
        for key in _CATEGORIES:
            if isinstance(source.get(key), str):
                return source[key]
    return None


def _reference(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is known of the right answer, as label and text: none or one."""
    truth = row.get("label", row.get("truth"))
    if isinstance(truth, Mapping):
        truth = next((truth[key] for key in _REFERENCES if key in truth), None)
    label = "in the image" if isinstance(truth, set | frozenset) else "expected"
    if isinstance(truth, set | frozenset | list | tuple):
        texts = list(dict.fromkeys(filter(lambda part: isinstance(part, str), truth)))
        truth = ", ".join(sorted(texts) if label == "in the image" else texts)
    return [(label, _clipped(truth, MAX_REFERENCE))] if isinstance(truth, str) and truth else []


def _clipped(text: str, most: int = MAX_CHARACTERS) -> str:
    rest = len(text) - most
    return text if rest <= 0 else f"{text[:most]} … ({rest:,} more characters)"
