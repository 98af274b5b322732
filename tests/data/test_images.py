import base64
import io
import os
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trl_mm.data import pixels
from trl_mm.data.images import ImageError, image_size, open_image, resolve_image


def encoded(image, format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format=format, **options)
    return buffer.getvalue()


RED = PIL.Image.new("RGB", (4, 3), "red")
PNG = encoded(RED)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images" / "sub").mkdir(parents=True)
    (tmp_path / "images" / "sub" / "red.png").write_bytes(PNG)
    (tmp_path / "secret.png").write_bytes(PNG)
    return tmp_path / "images"


def test_every_form_of_an_image_opens(folder):
    path = folder / "sub" / "red.png"
    items = ["sub/red.png", Path("sub/red.png"), path, PNG, bytearray(PNG), {"bytes": PNG, "path": None}]
    items += [
        {"bytes": None, "path": "sub/red.png"},
        {"bytes": PNG, "path": "elsewhere.png"},
        RED,
        PIL.Image.open(path),
    ]
    for item in items:
        image = open_image(item, folder)
        assert (image.mode, image.size, image.getpixel((0, 0))) == ("RGB", (4, 3), (255, 0, 0))


def test_resolving_reads_no_file_and_keeps_bytes(folder):
    (folder / "text.png").write_text("no image")
    assert resolve_image("text.png", folder) == {"bytes": None, "path": str(folder / "text.png")}
    assert resolve_image({"bytes": PNG, "path": "a.png"}) == {"bytes": PNG, "path": "a.png"}
    assert resolve_image(memoryview(PNG)) == {"bytes": PNG, "path": None}


def test_pil_image_is_stored_as_it_looks_now(folder):
    image = PIL.Image.open(folder / "sub" / "red.png")
    image.thumbnail((2, 2))  # changes the image in place, and leaves it the name of the file
    stored = resolve_image(image)
    assert stored["path"] is None and open_image(stored).size == (2, 2)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_every_mode_becomes_rgb(mode):
    image = PIL.Image.new(mode, (2, 2))
    assert open_image(encoded(image, "TIFF")).mode == "RGB"


def test_palette_with_transparent_colours():
    image = PIL.Image.new("P", (2, 2))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    opened = open_image(encoded(image, transparency=b"\x00\xff"))
    assert [opened.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (40, 50, 60)]


def test_greyscale_of_16_bits_is_scaled():
    levels = np.linspace(0, 2**16 - 1, 256).round().astype(np.uint16).reshape(16, 16)
    expected = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = PIL.Image.fromarray(levels)
    for item in (image, *(encoded(image, format) for format in ("PNG", "TIFF", "PPM"))):
        assert (np.asarray(open_image(item)) == expected[..., None]).all()
    assert open_image(resolve_image(image)).tobytes() == open_image(image).tobytes()


@given(st.lists(st.integers(0, 2**16 - 1), min_size=1, max_size=20))
def test_any_level_of_16_bits_becomes_the_nearest_of_8(levels):
    opened = np.asarray(open_image(encoded(PIL.Image.fromarray(np.array([levels], np.uint16)))))
    assert (opened == np.round(np.array(levels) * 255 / 65535)[None, :, None]).all()


def test_greyscale_of_12_bits_and_with_white_as_zero():
    levels = PIL.Image.fromarray(np.array([[0, 4095]], np.uint16))
    opened = PIL.Image.open(io.BytesIO(encoded(levels, "TIFF")))
    opened.tag_v2[258] = (12,)
    assert open_image(opened).getextrema()[0] == (0, 255)
    opened = PIL.Image.open(io.BytesIO(encoded(levels, "TIFF")))
    opened.tag_v2[262] = 0
    assert open_image(opened).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_greyscale_of_32_bits_is_refused(dtype):
    image = PIL.Image.fromarray(np.ones((2, 2), dtype))
    for item in (image, encoded(image, "TIFF")):
        with pytest.raises(ImageError, match=r"greyscale in 32 bits \(mode [IF]\).*Store it with 8 or 16"):
            open_image(item)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "RGBa"])
def test_dark_writing_without_a_ground_stays_readable(mode):
    image = PIL.Image.new("RGBA", (3, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (0, 0, 0, 255))
    image.putpixel((2, 0), (0, 0, 0, 128))
    image = image.convert(mode)
    formats = {"RGBA": ("PNG", "TIFF", "WEBP"), "LA": ("PNG", "TIFF")}.get(mode, ())
    options = {"WEBP": {"lossless": True, "exact": True}}
    for item in (image, *(encoded(image, format, **options.get(format, {})) for format in formats)):
        pixels = [open_image(item).getpixel((x, 0))[0] for x in range(3)]
        assert pixels == [255, 0, pytest.approx(127, abs=1)]


@pytest.mark.parametrize(("mode", "transparent"), [("L", 7), ("1", 0), ("RGB", (7, 7, 7)), ("I;16", 7)])
def test_a_colour_that_stands_for_transparent_is_white(mode, transparent):
    image = PIL.Image.new(mode, (2, 1), transparent)
    image.putpixel((1, 0), {"1": 1, "RGB": (9, 9, 9), "I;16": 9 * 257}.get(mode, 9))
    opened = open_image(encoded(image, transparency=transparent))
    second = 255 if mode == "1" else 9
    assert [opened.getpixel((x, 0)) for x in (0, 1)] == [(255,) * 3, (second,) * 3]
    assert not opened.has_transparency_data


def test_transparency_is_said_once(caplog):
    pixels._warn_of_transparency.cache_clear()
    open_image(PIL.Image.new("RGBA", (2, 2), (1, 2, 3, 255)))
    assert not caplog.text, "an alpha channel that hides nothing"
    for _ in range(2):
        open_image(PIL.Image.new("RGBA", (2, 2)))
    assert caplog.text.count("shown on white") == 1


def test_cmyk_looks_as_it_did():
    image = PIL.Image.new("RGB", (8, 8), (200, 20, 30)).convert("CMYK")
    for format in ("JPEG", "TIFF"):
        assert open_image(encoded(image, format)).getpixel((3, 3)) == pytest.approx((200, 20, 30), abs=6)


def test_exif_data_that_cannot_be_read_say_nothing():
    chunk = b"eXIf" + b"garbage garbage"
    chunk = (len(chunk) - 4).to_bytes(4) + chunk + zlib.crc32(chunk).to_bytes(4)
    data = PNG[:33] + chunk + PNG[33:]  # behind IHDR
    with pytest.raises(SyntaxError):
        PIL.Image.open(io.BytesIO(data)).getexif()
    assert open_image(data).tobytes() == RED.tobytes() and image_size(data) == (3, 4)


@given(orientation=st.integers(0, 9), format=st.sampled_from(["PNG", "JPEG", "WEBP", "TIFF"]))
def test_images_are_turned_as_pillow_turns_them_and_only_once(orientation, format):
    exif = PIL.Image.Exif()
    exif[PIL.Image.ExifTags.Base.Orientation] = orientation
    image = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (5, 8, 3), np.uint8))
    data = encoded(image, format, exif=exif, **({"lossless": True} if format == "WEBP" else {}))
    opened = open_image(data)
    expected = PIL.ImageOps.exif_transpose(PIL.Image.open(io.BytesIO(data)))
    assert opened.tobytes() == expected.tobytes()
    assert open_image(opened).tobytes() == opened.tobytes()


def test_exif_orientation_is_applied():
    exif = PIL.Image.Exif()
    exif[PIL.Image.ExifTags.Base.Orientation] = 6  # rotate by 270 degrees to show
    data = encoded(RED, "JPEG", exif=exif)
    assert PIL.Image.open(io.BytesIO(data)).size == (4, 3)
    assert open_image(data).size == (3, 4)
    assert open_image(resolve_image(PIL.Image.open(io.BytesIO(data)))).size == (3, 4)


@pytest.mark.parametrize("path", ["../secret.png", "sub/../../secret.png", "link.png", "folder_link/secret.png"])
def test_path_that_leaves_the_folder_is_refused(folder, path):
    (folder / "link.png").symlink_to(folder.parent / "secret.png")
    (folder / "folder_link").symlink_to(folder.parent)
    for item in (path, Path(path), {"bytes": None, "path": path}, str(folder / path)):
        with pytest.raises(ValueError, match=r"secret.png|link.png") as error:
            open_image(item, folder)
        assert "leaves the image folder" in str(error.value) and "image_folder" in str(error.value)
        assert not isinstance(error.value, ImageError), "this is not to be skipped like a missing file"


def test_absolute_path_outside_and_folder_with_the_same_beginning_are_refused(folder):
    twin = folder.parent / "images2"
    twin.mkdir()
    (twin / "a.png").write_bytes(PNG)
    for path in (folder.parent / "secret.png", twin / "a.png", "../images2/a.png", "/etc/passwd"):
        with pytest.raises(ValueError, match="leaves the image folder"):
            resolve_image(path, folder)


def test_links_inside_the_folder_and_to_the_folder_are_followed(folder):
    (folder / "inside.png").symlink_to(folder / "sub" / "red.png")
    (folder.parent / "other").symlink_to(folder)
    assert open_image("inside.png", folder.parent / "other").size == (4, 3)


@given(parts=st.lists(st.sampled_from(["..", ".", "sub", "images", "link", "secret.png", "red.png", "/"]), max_size=6))
def test_no_path_reaches_outside(parts, tmp_path_factory):
    base = tmp_path_factory.getbasetemp() / "walk"
    if not base.exists():
        (base / "images" / "sub").mkdir(parents=True)
        (base / "images" / "link").symlink_to(base)
        for path in ("secret.png", "images/red.png", "images/sub/red.png"):
            (base / path).write_bytes(PNG)
    path = "/".join(parts)
    real = os.path.realpath(base / "images" / path)
    if os.path.isfile(real) and real.startswith(str(base / "images") + os.sep):
        assert os.path.realpath(resolve_image(path, base / "images")["path"]) == real
        return
    with suppress(ValueError):  # or it is found at its usual place
        assert resolve_image(path, base / "images")["path"].startswith(str(base / "images") + os.sep)


def test_without_a_folder_any_path_is_allowed(folder, monkeypatch):
    monkeypatch.chdir(folder / "sub")
    assert open_image("red.png").size == open_image("../../secret.png").size == (4, 3)


@pytest.mark.parametrize("path", ["gone.png", "sub", "", "red\0.png", "half\ud83d.png"])
def test_missing_file_is_named_with_a_cure(folder, path):
    with pytest.raises(ImageError, match="Image file .* (does not|cannot) exist.* Correct the path"):
        open_image(path, folder)


@pytest.mark.parametrize("name", ["empty", "text", "truncated", "header"])
def test_undecodable_image_is_named_with_a_cure(folder, name):
    data = {"empty": b"", "text": b"no image", "truncated": encoded(RED, "JPEG")[:-60], "header": PNG[:40]}[name]
    (folder / "bad.png").write_bytes(data)
    with pytest.raises(ImageError, match=r"Image '.*bad.png' (cannot be decoded|is no image).*(Replace|Convert)"):
        open_image("bad.png", folder)
    with pytest.raises(ImageError, match="An image of [0-9]+ bytes"):
        open_image(data)


def test_postscript_never_reaches_an_interpreter(monkeypatch):
    from PIL import EpsImagePlugin

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *args, **kwargs: pytest.fail("Ghostscript was started"))
    with pytest.raises(ImageError, match="is no image in one of the formats"):
        open_image(encoded(RED, "EPS"))


@pytest.mark.parametrize("module", ["images", "pixels"])
def test_too_many_pixels_are_an_error_with_a_cure(monkeypatch, module):
    if module == "images":
        monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 5)
    else:
        monkeypatch.setattr(pixels, "MAX_PIXELS", 11)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("pixels were decoded"))
    cure = {"images": "12 pixels.*exceeds limit of 10.*MAX_IMAGE_PIXELS", "pixels": "4 x 3 pixels.*TRL_MM_MAX_PIXELS"}
    for function in (open_image, image_size):
        with pytest.raises(ImageError, match=cure[module]):
            function(PNG)


def test_threads_decode_no_more_pixels_together_than_the_budget_holds(monkeypatch):
    budget, most, real_load = pixels.PixelBudget(30), [], PIL.ImageFile.ImageFile.load
    monkeypatch.setattr(pixels, "BUDGET", budget)
    together = threading.Barrier(2, timeout=60)  # each waits until another is inside as well

    def load(image):
        most.append(budget.in_use)
        together.wait()
        return real_load(image)

    monkeypatch.setattr(PIL.ImageFile.ImageFile, "load", load)
    with ThreadPoolExecutor(8) as pool:
        assert len(list(pool.map(open_image, [encoded(RED, "BMP")] * 8))) == 8
    assert max(most) == 24 and budget.in_use == 0

    monkeypatch.setattr(PIL.ImageFile.ImageFile, "load", real_load)
    assert open_image(PIL.Image.new("RGB", (100, 100))).size == (100, 100), "one alone always goes through"
    with pytest.raises(ImageError):
        open_image(encoded(RED, "JPEG")[:-60])
    assert budget.in_use == 0


BASE64 = base64.b64encode(PNG).decode()


@pytest.mark.parametrize(
    "item",
    [
        {"bytes": BASE64, "path": "a.png"},
        {"bytes": f"data:image/png;base64,{BASE64}"},
        f"data:image/png;base64,{BASE64}",
        BASE64,
        BASE64.rstrip("="),
        base64.encodebytes(PNG).decode(),
        {"base64": BASE64},
        {"url": f"data:image/png;base64,{BASE64}"},
        {"image_url": {"url": f"data:image/png;base64,{BASE64}"}},
    ],
)
def test_base64_is_decoded(item, folder):
    assert resolve_image(item, folder)["bytes"] == PNG


def test_base64_of_a_jpeg_is_no_absolute_path(folder):
    data = encoded(RED, "JPEG")
    assert base64.b64encode(data).startswith(b"/9j/")
    assert resolve_image(base64.b64encode(data).decode(), folder)["bytes"] == data


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("https://example.org/" + "a" * 2_000_000, "is an address, and nothing is fetched.*Download the images"),
        ("s3://bucket/a.png", "is an address"),
        ("file://host/a.png", "is an address"),
        ({"url": "http://example.org/a.png"}, "is an address"),
        ("data:image/png,%89PNG", "is no base64"),
        ("data:image/png;base64," + "~" * 2_000_000, "is no base64"),
        ("iVBORw0KGgo" + "~" * 2_000_000, "is no base64"),
        ({"bytes": "~" * 2_000_000}, "is no base64"),
        ({"bytes": None, "path": None}, "An image is missing"),
        ({"image_url": None}, "An image is missing"),
        (None, "An image is missing"),
        ("a" * 2_000_000, "does not exist"),
        ("\x1b[2J.png", "does not exist"),
    ],
)
def test_an_image_that_cannot_be_had_is_an_image_error_of_some_words(item, message, folder):
    with pytest.raises(ImageError, match=message) as error:
        resolve_image(item, folder)
    assert len(str(error.value)) < 1500 and str(error.value).isprintable()


def test_file_addresses_are_paths(folder):
    (folder / "a b.png").write_bytes(PNG)
    assert resolve_image(f"file://{folder}/a%20b.png", folder)["path"] == str(folder / "a b.png")
    with pytest.raises(ValueError, match="leaves the image folder"):
        resolve_image("file:///etc/passwd", folder)


@pytest.mark.parametrize("item", [3, ["a.png"], {}, {"bytes": 3}, {"bytes": b"x", "path": 3}, {"x": 1}])
def test_what_is_no_image_is_refused(item):
    with pytest.raises(ValueError, match="An image (must be a path, bytes, a PIL image|with `bytes` must have)"):
        open_image(item)


@pytest.mark.filterwarnings("ignore")  # PIL warns of some broken files before it fails
@given(data=st.data(), format=st.sampled_from(["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "PPM"]))
def test_broken_bytes_give_an_image_or_an_image_error(data, format):
    broken = bytearray(encoded(RED, format))
    for _ in range(data.draw(st.integers(1, 4))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    broken = broken[: data.draw(st.integers(0, len(broken)))]
    try:
        assert open_image(bytes(broken)).mode == "RGB"
    except ImageError:
        pass


@given(
    format=st.sampled_from(["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "PPM"]),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    orientation=st.integers(1, 8),
)
def test_the_size_is_that_of_the_opened_image(format, size, orientation):
    exif = PIL.Image.Exif()
    exif[PIL.Image.ExifTags.Base.Orientation] = orientation
    options = {"exif": exif} if format in ("PNG", "JPEG", "WEBP", "TIFF") else {}
    data = encoded(PIL.Image.new("RGB", size), format, **options)
    opened = open_image(data)
    for item in (data, {"bytes": data, "path": None}, PIL.Image.open(io.BytesIO(data))):
        assert image_size(item) == (opened.height, opened.width)


def test_the_size_is_read_from_every_form_and_without_a_pixel(folder, monkeypatch):
    path = folder / "red.jpg"
    path.write_bytes(encoded(RED, "JPEG"))
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("pixels were decoded"))
    data = path.read_bytes()
    for item in (path, str(path), data, {"bytes": None, "path": str(path)}, PIL.Image.open(io.BytesIO(data))):
        assert image_size(item) == (3, 4)


def test_the_orientation_behind_the_pixels_of_a_png_counts():
    exif = PIL.Image.Exif()
    exif[PIL.Image.ExifTags.Base.Orientation] = 6
    data = encoded(RED, exif=exif)
    start = data.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(data[start : start + 4])
    late = data[:start] + data[end:-12] + data[start:end] + data[-12:]  # before IEND, which has 12 bytes
    assert late.index(b"eXIf") > late.index(b"IDAT")
    assert image_size(late) == (4, 3) and open_image(late).size == (3, 4)


def test_a_size_that_cannot_be_read_is_an_image_error_with_a_cure(folder):
    (folder / "bad.png").write_text("no image")
    with pytest.raises(ImageError, match="Image '.*bad.png' is no image.*Replace it"):
        image_size(folder / "bad.png")
    with pytest.raises(ImageError, match="An image of 8 bytes is no image"):
        image_size(b"no image")
    with pytest.raises(ImageError, match="does not exist"):
        image_size(folder / "gone.png")


@pytest.mark.filterwarnings("ignore")  # PIL warns of some broken files before it fails
@given(data=st.data(), format=st.sampled_from(["PNG", "JPEG", "WEBP", "TIFF"]))
def test_broken_bytes_give_a_size_or_an_image_error(data, format):
    exif = PIL.Image.Exif()
    exif[PIL.Image.ExifTags.Base.Orientation] = 6
    broken = bytearray(encoded(RED, format, exif=exif))
    for _ in range(data.draw(st.integers(1, 4))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert len(image_size(bytes(broken))) == 2
    except ImageError:
        pass
