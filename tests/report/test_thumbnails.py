import base64
import io

import numpy as np
import pytest
from PIL import Image

from trl_mm.report.thumbnails import thumbnail


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (600, 800, 3), dtype=np.uint8))


def decoded(small):
    content = base64.b64decode(small["uri"].partition(",")[2])
    with Image.open(io.BytesIO(content)) as image:
        image.load()
    assert image.size == (small["width"], small["height"])
    return image, len(content)


def test_no_more_pixels_than_asked_for():
    image, _ = decoded(thumbnail(NOISE, pixels=100))
    assert image.size == (100, 75)


@pytest.mark.parametrize("max_bytes", [20_000, 4_000, 1_000])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])  # in grey, noise has as few colours as a drawing
def test_no_more_bytes_than_asked_for(mode, max_bytes):
    noise = NOISE.convert(mode)
    if mode == "RGBA":
        noise.putalpha(NOISE.convert("L"))
    image, size = decoded(thumbnail(noise, pixels=192, max_bytes=max_bytes))
    assert size <= max_bytes
    assert image.format == "JPEG"


def test_a_limit_below_any_image_ends():
    image, _ = decoded(thumbnail(NOISE, pixels=64, max_bytes=1))
    assert image.size == (1, 1)


def test_what_is_transparent_becomes_white():
    noise = NOISE.convert("RGBA")
    noise.paste((0, 0, 255, 0), (400, 0, 800, 600))
    image, _ = decoded(thumbnail(noise, pixels=200, max_bytes=9_000))
    assert image.format == "JPEG"
    assert min(image.getpixel((190, 75))) > 250


def test_a_drawing_stays_png():
    image, _ = decoded(thumbnail(Image.new("RGB", (300, 300), "red"), max_bytes=5000))
    assert image.format == "PNG"
