"""What a preference dataset holds, as a page: figures of all of its rows, and rows to look at."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from datasets import Dataset

from ..data.images import ImageError, open_image
from ..data.pair_statistics import (
    answer_text,
    count_attempts,
    count_words,
    histogram,
    number,
    percentiles,
    text_of,
)
from ..data.tables import raw_rows
from ..data.word_differences import word_differences
from .anatomy import Anatomy
from .anatomy_page import add_anatomy, add_leaks
from .log_probs import PairLogProbs
from .log_probs_page import add_log_probs
from .page import GalleryItem, Page


MAX_CHARACTERS = 5000  # of a text in the gallery; the rest is counted
MAX_IMAGES = 4  # of a row in the gallery; the rest is counted
BYTES_PER_PIXEL = 0.2  # of a square thumbnail, at most: few photographs need more as JPEG of quality 75
GROUPED_BY = ("dataset", "source", "chosen_model", "rejected_model")
MARGIN = "log-probability of chosen less rejected"
_BATCH = 32  # rows in memory at a time, images as they are stored
_TEXTS = ("prompt", "chosen", "rejected")


def pair_page(
    title: str,
    dataset: Dataset,
    max_rows: int = 1000,
    image_size: int = 192,
    anatomies: Mapping[str, Anatomy] | None = None,
    leaks: Mapping[str, Mapping[str, str]] | None = None,
    log_probs: PairLogProbs | None = None,
) -> tuple[Page, int]:
    """
    Make the page of a preference dataset.

    Args:
        title (`str`):
            Name of the dataset.
        dataset (`datasets.Dataset`):
            Rows as [`load_preferences`] returns them. Columns `bdhs_*` are shown where there are any.
        max_rows (`int`, *optional*, defaults to `1000`):
            Most rows to look at, evenly spread over the dataset. The figures are of all rows.
        image_size (`int`, *optional*, defaults to `192`):
            Longest side of a thumbnail in pixels. Those of one row take at most `0.27 * image_size**2` bytes of the
            page: 10 kB by default.
        anatomies (`Mapping[str, Anatomy]`, *optional*):
            What this dataset, and others beside it, are made of, by their names ([`anatomy`]).
        leaks (`Mapping[str, Mapping[str, str]]`, *optional*):
            For each other dataset or folder, from an image of this one to the one there that shows the same
            ([`alike`]).
        log_probs ([`PairLogProbs`], *optional*):
            What a model makes of the rows to look at.

    Returns:
        `(Page, int)`:
            The page, and the number of images on it that cannot be read.
    """
    indices = spread(len(dataset), max_rows)
    page = Page(f"Preference pairs: {title}")
    numbers = _add_summary(page, dataset)
    if anatomies:
        add_anatomy(page, anatomies)
    if leaks:
        add_leaks(page, leaks, next(iter(anatomies.values())).images.distinct if anatomies else 0)
    if log_probs:
        names = [name for name in GROUPED_BY if name in dataset.column_names]
        scored = dataset.select_columns(names).select(log_probs.rows)
        add_log_probs(page, log_probs, {name: [str(value) for value in scored[name]] for name in names})
    page.heading("Pairs")
    filters = {"attempt": "choice"} if "bdhs_attempts" in numbers else {}
    filters["similarity" if "bdhs_similarity" in numbers else "words in common"] = "range"
    margins = dict(zip(log_probs.rows, log_probs.margins, strict=True)) if log_probs else {}
    filters |= {MARGIN: "range"} if margins else {}
    unreadable = Counter()
    items = _items(dataset.select(indices), unreadable, [margins.get(index) for index in indices])
    page.browser(items, filters, pixels=image_size, max_bytes=int(BYTES_PER_PIXEL * image_size**2))
    images = sum(unreadable.values())
    page.subtitle = f"{len(dataset):,} rows, {len(indices):,} of them below" + (
        f". Images that cannot be read: {images:,} in {len(unreadable):,} rows" if images else ""
    )
    return page, images


def spread(num_rows: int, most: int) -> list[int]:
    """At most `most` indices of `num_rows` rows, evenly spread."""
    return [index * num_rows // most for index in range(most)] if most < num_rows else list(range(num_rows))


def _add_summary(page: Page, dataset: Dataset) -> dict[str, list[float]]:
    """Adds the figures of all rows, and returns the columns of finite numbers among `bdhs_*`."""
    total, same, lengths = len(dataset), 0, {"words of chosen": [], "words of rejected": []}
    for row in dataset.select_columns(["chosen", "rejected"]):
        texts = answer_text(row["chosen"]), answer_text(row["rejected"])
        same += texts[0] == texts[1]
        for counts, text in zip(lengths.values(), texts, strict=True):
            counts.append(count_words(text))
    columns = {name: dataset[name][:] for name in dataset.column_names if name.startswith("bdhs_")}
    flags = {name: values for name, values in columns.items() if _of_type(values, bool)}
    numbers = {
        name: [v for v in values if number(v) is not None]
        for name, values in columns.items()
        if _of_type(values, int, float)
    }
    numbers = {name: values for name, values in numbers.items() if values}

    counts = {"all": total, "rejected identical to chosen": same}
    counts |= {"unguided" if n == "bdhs_guided" else n: v.count(n != "bdhs_guided") for n, v in flags.items()}
    page.table(["rows", "number", "share"], [[name, count, f"{count / total:.1%}"] for name, count in counts.items()])
    spans = lengths | {name: values for name, values in numbers.items() if name != "bdhs_attempts"}
    rows = [[name, *map(float, percentiles(values))] for name, values in spans.items()]
    page.table(["figure", "5 %", "median", "95 %"], rows)
    texts = {name: Counter(filter(None, values)) for name, values in columns.items() if _of_type(values, str)}
    if texts:
        common = [[name, text, count] for name, counts in texts.items() for text, count in counts.most_common(5)]
        page.table(["column", "most common values", "rows"], common)
    if "bdhs_attempts" in numbers:
        _add_attempts(page, dataset)
    if "bdhs_similarity" in numbers:
        page.bars("Similarity of rejected to chosen", histogram(numbers["bdhs_similarity"]), "similarity")
    return numbers


def _add_attempts(page: Page, dataset: Dataset) -> None:
    """A row's first attempts were refused, its last one was accepted."""
    counts = count_attempts(dataset.select_columns(["bdhs_attempts"]))
    page.table(
        ["attempt", "made", "accepted", "of made", "of all"],
        [
            [f"{c.attempt:g}", c.made, c.kept, f"{c.kept / c.made:.1%}", f"{c.kept / counts[0].made:.1%}"]
            for c in counts
        ],
        caption="Accepted are answers that differ enough from the chosen one, and what the last attempt gives.",
    )


def _of_type(values: Sequence[Any], *types: type) -> bool:
    """Whether values, apart from missing ones, are of these types, and there are any."""
    found = {type(value) for value in values} - {type(None)}
    return bool(found) and found <= set(types)


def _items(dataset: Dataset, unreadable: Counter, margins: Sequence[float | None]) -> Iterator[GalleryItem]:
    """The rows as cards, with how much likelier the chosen answer is to a model. `unreadable` counts images by row."""
    for index, row in enumerate(_stored_rows(dataset)):
        prompt, chosen, rejected = (_clipped(text_of(row[name])) for name in _TEXTS)
        only_chosen, only_rejected, common = word_differences(chosen, rejected)
        attempt, similarity = (number(row.get(name)) for name in ("bdhs_attempts", "bdhs_similarity"))
        title = [f"attempt {attempt}"] if attempt is not None else []
        title += [f"similarity {similarity:.3f}" if similarity is not None else f"words in common {common:.3f}"]
        title += [] if margins[index] is None else [f"chosen less rejected {margins[index]:+.1f} nats"]
        title += ["identical"] if chosen == rejected else []
        title += ["unguided"] if row.get("bdhs_guided") is False else []
        title += [f"row {_clipped(row['row_id'])}"]  # last: marks for the direction of text in it turn what follows
        values = {"attempt": attempt, "similarity": similarity, "words in common": round(common, 3)}
        values[MARGIN] = None if margins[index] is None else round(margins[index], 2)
        answers = [
            ("chosen", chosen, [(*span, "good") for span in only_chosen]),
            ("rejected", rejected, [(*span, "bad") for span in only_rejected]),
        ]
        images = [_image(image, index, unreadable) for image in row["images"][:MAX_IMAGES]]
        if len(row["images"]) > MAX_IMAGES:
            images.append(f"and {len(row['images']) - MAX_IMAGES} more images")
        yield GalleryItem(images or "no image", " · ".join(title), answers, prompt, values)


def _stored_rows(dataset: Dataset) -> Iterator[dict[str, Any]]:
    """Rows whose images are not decoded: one that cannot be is no reason to stop."""
    table = dataset.with_format("arrow")
    for start in range(0, len(dataset), _BATCH):
        yield from raw_rows(table[start : start + _BATCH], dataset.features)


def _image(stored: dict[str, Any], index: int, unreadable: Counter) -> Any:
    try:
        return open_image(stored)
    except (ImageError, ValueError) as error:
        unreadable[index] += 1
        return f"No such file: {stored['path']}" if stored["bytes"] == b"" else str(error)


def _clipped(text: str) -> str:
    rest = len(text) - MAX_CHARACTERS
    return text if rest <= 0 else f"{text[:MAX_CHARACTERS]} … ({rest:,} more characters)"
