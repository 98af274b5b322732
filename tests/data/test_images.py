import io
import os
from pathlib import Path

import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    assert open_image(encoded(image, transparency=b"\x00\xff")).getpixel((0, 0)) == (10, 20, 30)


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
    try:
        found = resolve_image("/".join(parts), base / "images")["path"]
    except ValueError:
        return
    assert os.path.realpath(found).startswith(str(base / "images") + os.sep)


def test_without_a_folder_any_path_is_allowed(folder, monkeypatch):
    monkeypatch.chdir(folder / "sub")
    assert open_image("red.png").size == open_image("../../secret.png").size == (4, 3)


@pytest.mark.parametrize("path", ["gone.png", "sub", "", "red\0.png", "https://example.com/a.png"])
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


def test_decompression_bomb_is_an_error_with_a_cure(monkeypatch):
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 5)
    with pytest.raises(ImageError, match="12 pixels.*exceeds limit of 10.*MAX_IMAGE_PIXELS"):
        open_image(PNG)


@pytest.mark.parametrize("item", [None, 3, ["a.png"], {}, {"bytes": None, "path": None}, {"url": "x"}])
def test_what_is_no_image_is_refused(item):
    with pytest.raises(ValueError, match="An image must be a path, bytes, a PIL image"):
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
    with pytest.raises(ImageError, match="size of image '.*bad.png' cannot be read.*Replace it"):
        image_size(folder / "bad.png")
    with pytest.raises(ImageError, match="size of an image of 8 bytes"):
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
