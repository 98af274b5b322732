"""Tokens that rows take, counted from text and image sizes alone: no stored pixel is decoded.

Texts are rendered and tokenized as TRL's collator does it in training, so the counts are those of its batches.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset
from trl import prepare_multimodal_messages

from ..data.images import ImageError, image_size
from ..data.rows import PREFERENCE_COLUMNS
from ..data.shown import shown
from ..data.tables import raw_rows
from .chat_template import bos_ids, render_examples
from .control_tokens import check_texts
from .image_tokens import UNFIT, ImageTokenCounter, unfit_sizes


_BATCH = 256  # rows in memory at once, images as they are stored


@dataclass(frozen=True)
class TokenCounts:
    """
    Tokens of each row.

    Attributes:
        prompt (`numpy.ndarray` of shape `(num_rows,)`): tokens of the prompt, image tokens included.
        chosen (`numpy.ndarray` of shape `(num_rows,)`): tokens of the chosen answer; 0 if the row has none.
        rejected (`numpy.ndarray` of shape `(num_rows,)`): tokens of the rejected answer; 0 if the row has none.
        image (`numpy.ndarray` of shape `(num_rows,)`): image tokens.
    """

    prompt: np.ndarray
    chosen: np.ndarray
    rejected: np.ndarray
    image: np.ndarray

    def __len__(self) -> int:
        return len(self.prompt)

    @property
    def longest(self) -> np.ndarray:
        """Tokens of the prompt and the longer answer, of shape `(num_rows,)`."""
        return self.prompt + np.maximum(self.chosen, self.rejected)

    def cut(self, max_length: int | None) -> "TokenCounts":
        """Counts of the rows whose prompt leaves room for an answer, answers cut to `max_length` (`int` or `None`)."""
        if max_length is None:
            return self
        fits = self.prompt < max_length
        room = max_length - self.prompt[fits]
        chosen, rejected = (np.minimum(answer[fits], room) for answer in (self.chosen, self.rejected))
        return TokenCounts(self.prompt[fits], chosen, rejected, self.image[fits])

    def select(self, rows: np.ndarray) -> "TokenCounts":
        """Counts of some rows, given as numbers or as a mask."""
        return TokenCounts(self.prompt[rows], self.chosen[rows], self.rejected[rows], self.image[rows])

    @property
    def total(self) -> np.ndarray:
        """Tokens of the prompt and both answers, of shape `(num_rows,)`."""
        return self.prompt + self.chosen + self.rejected

    def padding(self, order: Sequence[int], batch_size: int) -> float:
        """
        Share of padding in the batches that TRL's collator makes, the mean over the batches of an epoch.

        Args:
            order (`Sequence[int]`): rows in the order in which they come.
            batch_size (`int`): rows in a batch.

        Returns:
            `float`
        """
        widths = np.stack([self.prompt + self.chosen, self.prompt + self.rejected], axis=1)[np.asarray(order)]
        batches = (widths[start : start + batch_size] for start in range(0, len(widths), batch_size))
        return float(np.mean([1 - batch.sum() / (batch.size * batch.max()) for batch in batches]))


def count_tokens(
    dataset: Dataset, processor: Any, num_proc: int | None = None, name: str = "The dataset"
) -> TokenCounts:
    """
    Count the tokens of prompts, answers and images. Texts are checked before. Nothing is kept on disk, where counts
    would outlive the image files that they are of.

    Args:
        dataset (`datasets.Dataset`): rows in the row format; SFT rows and prompts as well.
        processor ([`~transformers.ProcessorMixin`]): processor of the model.
        num_proc (`int`, *optional*): processes to count with, as in `datasets.Dataset.map`; by default this one.
        name (`str`, *optional*, defaults to `"The dataset"`): name of the dataset, for a warning.

    Returns:
        [`TokenCounts`]: tokens of the rows as they are, whether they fit or not.

    Raises:
        ValueError: a text holds a token that stands for an image.
    """
    check_texts(dataset, processor, name)
    rows = dataset.select_columns([name for name in (*PREFERENCE_COLUMNS, "row_id") if name in dataset.column_names])
    counts = rows.with_format("arrow").map(
        partial(_count, features=rows.features, processor=processor, tokens=ImageTokenCounter(processor), sizes={}),
        batched=True,
        batch_size=_BATCH,
        remove_columns=rows.column_names,
        num_proc=num_proc and min(num_proc, len(rows)),
        keep_in_memory=True,
        new_fingerprint="counts",  # otherwise the processor would be hashed for a file that is not written
        desc="Counting tokens",
    )
    return TokenCounts(**counts.with_format("numpy")[:])


def _count(table, features, processor, tokens, sizes):
    """Counts of a table of rows, as a table. `sizes` keeps the sizes of image files that several rows show."""
    rows = raw_rows(table, features)
    images = [_sizes(row, sizes) for row in rows]
    in_images = np.array([_image_tokens(row, given, tokens) for row, given in zip(rows, images, strict=True)])  # (B,)

    examples = [_example(row, size) for row, size in zip(rows, images, strict=True)]
    texts = [processor.image_token]
    for text in render_examples(examples, processor):
        # TRL's name for the only answer is `completion`; one that the row lacks has no tokens
        texts += [text["prompt"], text.get("chosen", text.get("completion", "")), text.get("rejected", "")]
    ids = processor.tokenizer(texts, add_special_tokens=False, return_attention_mask=False)["input_ids"]
    marker, *lengths = map(len, ids)
    prompt, chosen, rejected = np.array(lengths).reshape(-1, 3).T  # (3, B)
    prompt = len(bos_ids(processor)) + prompt + in_images - marker * np.array([len(row) for row in images])
    return pa.table({"prompt": prompt, "chosen": chosen, "rejected": rejected, "image": in_images})


def _sizes(row, sizes):
    try:
        return tuple(_size(image, sizes) for image in row["images"])
    except ImageError as error:
        raise ImageError(f"Row {_name(row)}: {error}") from error


def _image_tokens(row, sizes, tokens):
    try:
        return tokens(sizes)
    except UNFIT as error:
        raise ValueError(f"Row {_name(row)}: {unfit_sizes(sizes, error)}") from error


def _name(row):
    return shown(str(row.get("row_id", "without `row_id`")))


def _size(image, sizes):
    if image["bytes"] is not None:
        return image_size(image)
    if image["path"] not in sizes:
        sizes[image["path"]] = image_size(image)
    return sizes[image["path"]]


def _example(row, images):
    """Messages of a row as TRL takes them to render, whichever answers it has."""
    # The template wants an object per image but never looks at it
    example = {"prompt": prepare_multimodal_messages(row["prompt"], images=images)}
    answers = {name: prepare_multimodal_messages(row[name]) for name in ("chosen", "rejected") if row.get(name)}
    return {**example, **(answers if len(answers) != 1 else {"completion": answers["chosen"]})}
