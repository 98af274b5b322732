"""Tokens that rows take, counted from text and image sizes alone: no stored pixel is decoded."""

import logging
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import PIL.Image
from datasets import Image, List

from .chat import render, text_ids
from .images import image_size


logger = logging.getLogger(__name__)


def prompt_lengths(dataset, processor):
    """
    Count prompt tokens, image tokens included.

    Args:
        dataset (`datasets.Dataset`): rows in the row format.
        processor ([`~transformers.ProcessorMixin`]): processor of the model.

    Returns:
        `numpy.ndarray` of shape `(num_rows,)`: tokens of each prompt.
    """
    dataset = dataset.cast_column("images", List(Image(decode=False)))
    marker = len(text_ids(processor, processor.image_token))
    count = image_token_counter(processor)

    def length(row):
        sizes = tuple(image_size(image) for image in row["images"])
        # The template wants an object per image but never looks at it
        text = render({"prompt": row["prompt"], "images": sizes}, processor).prompt
        return len(text_ids(processor, text)) + count(sizes) - marker * len(sizes)

    with ThreadPoolExecutor() as pool:
        return np.fromiter(pool.map(length, dataset), dtype=np.int64, count=len(dataset))


def image_token_counter(processor):
    """
    How to count the tokens that the images of a row take, with all that the processor writes around and between them.

    Processors count from sizes alone, but not all of them count right: those of transformers 5.23 forget for Gemma 3
    what frames an image, and for LLaVA-OneVision that several images in a row get no tiles. A processor is believed
    for rows of so many images if it is right once; otherwise it is given blank images of each size.

    Args:
        processor ([`~transformers.ProcessorMixin`]): processor of the model.

    Returns:
        `Callable`: from the sizes of a row's images (tuple of `(height, width)`, in pixels) to a number of tokens.
    """

    def stated(sizes):
        return sum(processor._get_num_multimodal_tokens(image_sizes=sizes)["num_image_tokens"])

    @cache
    def processed(sizes):
        images = [PIL.Image.new("RGB", (width, height)) for height, width in sizes]
        text = processor.image_token * len(sizes)
        inputs = processor(text=[text], images=[images], add_special_tokens=False, return_tensors="pt")
        return inputs["input_ids"].shape[1]

    @cache
    def counter(num_images):
        example = ((480, 640),) * num_images
        return stated if stated(example) == processed(example) else processed

    return lambda sizes: counter(len(sizes))(sizes) if sizes else 0


def keep_fitting(dataset, processor, max_length, overlong="drop", name="train"):
    """
    Drop or refuse rows whose prompt leaves no room for an answer. Image tokens are never cut.

    Args:
        dataset (`datasets.Dataset`): rows in the row format.
        processor ([`~transformers.ProcessorMixin`]): processor of the model.
        max_length (`int`, *optional*): longest sequence in tokens; `None` keeps every row.
        overlong (`str`, *optional*, defaults to `"drop"`): `"drop"` or `"error"`.
        name (`str`, *optional*, defaults to `"train"`): name of the dataset, for messages.

    Returns:
        `datasets.Dataset`: rows whose prompt has fewer than `max_length` tokens.

    Raises:
        ValueError: with `overlong="error"` if a row does not fit; with `"drop"` if none does.
    """
    if max_length is None:
        return dataset
    lengths = prompt_lengths(dataset, processor)
    too_long = np.flatnonzero(lengths >= max_length)
    if len(too_long) == 0:
        return dataset
    found = (
        f"{len(too_long)} of {len(dataset)} rows of the {name} dataset have a prompt of `max_length` ({max_length}) "
        f"tokens or more, the longest {lengths.max()} (row {lengths.argmax()})"
    )
    if overlong == "error" or len(too_long) == len(dataset):
        raise ValueError(
            f"{found}. Image tokens are never cut: raise `max_length`, use smaller images, or set `overlong='drop'` "
            "to train without the rows that do not fit."
        )
    logger.warning(f"{found}; they are dropped. Raise `max_length` to keep them.")
    return dataset.select(np.flatnonzero(lengths < max_length))
