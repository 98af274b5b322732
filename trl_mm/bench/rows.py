"""Rows of smooth random images and answers of random words."""

import random

import numpy as np
import PIL.Image
from datasets import Dataset, Image, List

from .models import QUESTION, WORDS


def picture(size, pixels):
    """
    A smooth random image.

    Args:
        size (`str`): width and height in pixels, such as `"672x672"`.
        pixels (`numpy.random.Generator`): where its colours come from.

    Returns:
        `PIL.Image.Image`
    """
    width, height = map(int, size.split("x"))
    noise = PIL.Image.fromarray(pixels.integers(0, 256, (16, 16, 3), np.uint8))
    return noise.resize((width, height), PIL.Image.Resampling.BICUBIC)


def random_prompts(image_sizes, num_rows, seed=0):
    """
    Prompt rows.

    Args:
        image_sizes (`list[str]`): sizes of the images, which rows take in turn.
        num_rows (`int`): how many.
        seed (`int`, *optional*, defaults to `0`): what pixels derive from.

    Returns:
        `datasets.Dataset`: rows with `images` and `prompt`.
    """
    pixels = np.random.default_rng(seed)
    rows = [
        {
            "images": [picture(image_sizes[number % len(image_sizes)], pixels)],
            "prompt": [{"role": "user", "content": QUESTION}],
        }
        for number in range(num_rows)
    ]
    return Dataset.from_list(rows).cast_column("images", List(Image()))


def random_pairs(image_sizes, num_rows, lengths, processor, seed=0):
    """
    Preference rows.

    Args:
        image_sizes (`list[str]`): sizes of the images, which rows take in turn.
        num_rows (`int`): how many.
        lengths (`list[int]`): shortest and longest answer in tokens.
        processor ([`~transformers.ProcessorMixin`]): processor whose tokens are counted.
        seed (`int`, *optional*, defaults to `0`): what pixels and words derive from.

    Returns:
        `datasets.Dataset`: rows with `images`, `prompt`, `chosen` and `rejected`.
    """
    draw = random.Random(seed)

    def answer():
        length, words = draw.randint(min(lengths), max(lengths)), []
        while len(ids := processor.tokenizer(" ".join(words), add_special_tokens=False)["input_ids"]) < length - 1:
            words += draw.choices(WORDS, k=length - 1 - len(ids))
        return [{"role": "assistant", "content": " ".join(words)}]

    rows = random_prompts(image_sizes, num_rows, seed)
    chosen, rejected = zip(*[(answer(), answer()) for _ in range(num_rows)], strict=True)
    return rows.add_column("chosen", list(chosen)).add_column("rejected", list(rejected))
