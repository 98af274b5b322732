"""Pixels of an opened image: bounded in number, turned the right way, and in RGB as a viewer would show it."""

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np
import PIL.ExifTags
import PIL.Image


logger = logging.getLogger(__name__)

# A PNG of 20 kB can hold 170 million pixels, 1 GB when decoded. Cameras make 50 million, models look at a few.
MAX_PIXELS = int(os.environ.get("TRL_MM_MAX_PIXELS", 50_000_000))

_TURNS = {
    2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
    3: PIL.Image.Transpose.ROTATE_180,
    4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    5: PIL.Image.Transpose.TRANSPOSE,
    6: PIL.Image.Transpose.ROTATE_270,
    7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)
_BITS_PER_SAMPLE, _PHOTOMETRIC = 258, 262  # tags of a TIFF


class PixelBudget:
    """
    Keeps threads from decoding more pixels at a time than memory is meant for; one image alone always goes through.

    Args:
        most (`int`): pixels that are decoded at a time.
    """

    def __init__(self, most: int):
        self.most, self.in_use, self.changed = most, 0, threading.Condition()

    @contextmanager
    def taken(self, pixels: int) -> Iterator[None]:
        """Wait until so many pixels may be decoded, and hold them meanwhile."""
        with self.changed:
            self.changed.wait_for(lambda: not self.in_use or self.in_use + pixels <= self.most)
            self.in_use += pixels
        try:
            yield
        finally:
            with self.changed:
                self.in_use -= pixels
                self.changed.notify_all()


# Twelve bytes for a pixel at most while it is brought into RGB: 1.2 GB, however many threads there are
BUDGET = PixelBudget(2 * MAX_PIXELS)
if hasattr(os, "register_at_fork"):  # a thread of the parent would hold its pixels in a child forever
    os.register_at_fork(after_in_child=lambda: BUDGET.__init__(BUDGET.most))


def rgb(image: PIL.Image.Image) -> PIL.Image.Image:
    """
    Decode an image as a viewer shows it.

    - It is turned the way its EXIF orientation says, as `transformers` and `datasets` do it; LLaVA's code does not.
      EXIF data that cannot be read says nothing.
    - Greyscale of 16 bits is scaled to 8, where PIL cuts off at 255.
    - What is transparent is white, of which the first such image warns.

    Args:
        image (`PIL.Image.Image`):
            Image as PIL opens it, or one in memory. It is not changed.

    Returns:
        `PIL.Image.Image`:
            New image in RGB, without metadata.

    Raises:
        ValueError: it has more than `MAX_PIXELS` pixels, or is greyscale whose white is not known.
        Exception: whatever PIL's decoders raise.
    """
    check_size(image)
    with BUDGET.taken(image.width * image.height):
        image.load()
        turn = _TURNS.get(_orientation(image))
        result = _in_rgb(image)
        result = result if turn is None else result.transpose(turn)
    result.info = {}  # the orientation that it had, for example
    return result


def shown_size(image: PIL.Image.Image) -> tuple[int, int]:
    """Height and width that an image has in [`rgb`]."""
    check_size(image)
    with BUDGET.taken(image.width * image.height):  # PIL decodes a PNG to find its orientation
        # PIL gives the size of a TIFF as it is shown, that of any other file as it is stored.
        turned = image.format != "TIFF" and _orientation(image) in _SIDEWAYS
    return image.size if turned else (image.height, image.width)


def check_size(image: PIL.Image.Image) -> None:
    """Raise a `ValueError` if an image has too many pixels to be decoded."""
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(
            f"it has {image.width} x {image.height} pixels, more than {MAX_PIXELS:,}. Shrink it, or set the "
            "environment variable TRL_MM_MAX_PIXELS"
        )


def _orientation(image: PIL.Image.Image) -> int:
    try:
        return image.getexif().get(PIL.ExifTags.Base.Orientation, 1)
    except Exception:  # as with pixels, parsers raise whatever they meet, but the picture is there without it
        return 1


def _in_rgb(image: PIL.Image.Image) -> PIL.Image.Image:
    # A PGM of more than 8 bits has mode I
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return _from_16_bits(image)
    if image.mode in ("I", "F"):
        raise ValueError(
            f"it is greyscale in 32 bits (mode {image.mode}), which does not say what is white. Store it with 8 or 16"
        )
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    if image.getchannel("A").getextrema()[0] == 255:
        return image.convert("RGB")
    _warn_of_transparency()
    white = PIL.Image.new("RGB", image.size, "white")
    white.paste(image, mask=image)
    return white


def _from_16_bits(image: PIL.Image.Image) -> PIL.Image.Image:
    tags = getattr(image, "tag_v2", {})
    white = 2 ** tags.get(_BITS_PER_SAMPLE, (16,))[0] - 1  # some TIFFs have 12
    levels = np.arange(2**16, dtype=np.uint32).clip(max=white)
    levels = ((levels * 255 + white // 2) // white).astype(np.uint8)
    if tags.get(_PHOTOMETRIC) == 0:  # black and white are exchanged
        levels = 255 - levels
    if isinstance(image.info.get("transparency"), int):
        levels[image.info["transparency"]] = 255
    return PIL.Image.fromarray(levels[np.asarray(image)]).convert("RGB")


@cache  # one warning for all images
def _warn_of_transparency() -> None:
    logger.warning(
        "Images with transparent parts are shown on white. Store them without transparency for another ground."
    )
