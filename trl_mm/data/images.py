"""Images as rows hold them: paths, bytes or PIL images. Nothing is decoded before a caller asks for it."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import PIL.Image

from .image_forms import ImageError, content_or_path
from .image_places import usual_place
from .pixels import rgb, shown_size
from .shown import shown


# Fixed, so that a data set cannot reach PIL's EPS reader, which starts Ghostscript on the file.
_FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")

StoredImage = dict[str, Any]


def resolve_image(item: Any, image_folder: str | os.PathLike | None = None) -> StoredImage:
    """
    Bring an image into the form in which `datasets` stores it, without decoding it.

    Args:
        item (`str`, `Path`, `bytes`, `dict` or `PIL.Image.Image`):
            Path, content of a file (also in base64), `{"bytes": ..., "path": ...}`, or image; see [`content_or_path`].
            A PIL image becomes a PNG in RGB.
        image_folder (`str` or `Path`, *optional*):
            Folder that relative paths start from and no path may leave; images of COCO and Visual Genome are also
            found elsewhere in it, see [`usual_place`]. If `None`, relative paths start from the working directory and
            any path is allowed.

    Returns:
        `dict[str, Any]`:
            `{"bytes": content, "path": name or None}`, or `{"bytes": None, "path": absolute path}` of a file that
            exists.

    Raises:
        ImageError: there is no image, such as a file or an address on the network, or a PIL image cannot be
            decoded.
        ValueError: the path leaves `image_folder`, or `item` is none of the above.
    """
    if isinstance(item, PIL.Image.Image):
        buffer = io.BytesIO()
        open_image(item).save(buffer, format="PNG")
        return {"bytes": buffer.getvalue(), "path": None}
    content, path = content_or_path(item)
    if content is not None:
        return {"bytes": content, "path": path}
    return {"bytes": None, "path": _find(path, image_folder)}


def open_image(item: Any, image_folder: str | os.PathLike | None = None) -> PIL.Image.Image:
    """
    Decode an image completely.

    Args:
        item (`str`, `Path`, `bytes`, `dict` or `PIL.Image.Image`):
            As in [`resolve_image`].
        image_folder (`str` or `Path`, *optional*):
            As in [`resolve_image`].

    Returns:
        `PIL.Image.Image`:
            Image in RGB, turned the way its EXIF orientation says, on white where it is transparent; see [`rgb`].

    Raises:
        ImageError: the image is missing, cannot be decoded, has more than [`MAX_PIXELS`] pixels (50 million, or
            what the environment variable `TRL_MM_MAX_PIXELS` says), or is greyscale in 32 bits.
        ValueError: the path leaves `image_folder`, or `item` is nothing that can hold an image.
    """
    with _opened(item, image_folder) as image:
        return rgb(image)


def with_open_images(row: dict[str, Any], where: str | None = None) -> dict[str, Any]:
    """
    A row with its images decoded, for a batch.

    Args:
        row (`dict[str, Any]`):
            Row with `images` as in [`open_image`]. It is not modified.
        where (`str`, *optional*):
            File and row, for the message. By default the message names the row and says how to find such rows early.

    Returns:
        `dict[str, Any]`:
            New row.

    Raises:
        ImageError: an image cannot be decoded.
    """
    try:
        return {**row, "images": [open_image(image) for image in row["images"]]}
    except ImageError as error:
        if where is not None:
            raise ImageError(f"{where}: {error}") from error
        raise ImageError(
            f"Row {shown(str(row.get('row_id', '')))}: {error} With `check_images=True` such rows are found before "
            "training, and left out with `on_bad_image='skip'`."
        ) from error


@contextmanager
def _opened(item: Any, image_folder: str | os.PathLike | None = None) -> Iterator[PIL.Image.Image]:
    """An image with its head read; what is found out about it inside is an [`ImageError`]."""
    if isinstance(item, PIL.Image.Image):
        name, source = "The PIL image", None
    else:
        stored = resolve_image(item, image_folder)
        length = len(stored["bytes"] or b"")
        name = f"Image {shown(repr(stored['path']), 500)}" if stored["path"] else f"An image of {length} bytes"
        source = stored["path"] if stored["bytes"] is None else io.BytesIO(stored["bytes"])
    try:
        with nullcontext(item) if source is None else PIL.Image.open(source, formats=_FORMATS) as image:
            yield image
    except PIL.UnidentifiedImageError as error:
        raise ImageError(f"{name} is no image in one of the formats {', '.join(_FORMATS)}. Replace it.") from error
    except PIL.Image.DecompressionBombError as error:
        raise ImageError(f"{name} is too large: {error} Shrink it, or raise `PIL.Image.MAX_IMAGE_PIXELS`.") from error
    except Exception as error:  # PIL's decoders raise whatever their parsers meet: OSError, SyntaxError, struct.error
        raise ImageError(
            f"{name} cannot be decoded: {shown(str(error), 500)}. Replace it, or remove the row."
        ) from error


def _find(path: str, image_folder: str | os.PathLike | None) -> str:
    # Normalised before the links are followed, so that the path which is checked is the path which is opened later.
    found = os.path.abspath(os.path.join(image_folder or "", path))
    if "\0" in path or not _is_encodable(path):
        raise ImageError(
            f"Image file {shown(repr(path))} cannot exist: its name has a zero byte or half a character. Correct the "
            "path."
        )
    _check_inside(found, path, image_folder)
    if not os.path.isfile(found) and image_folder is not None:
        found = usual_place(path, os.path.abspath(image_folder)) or found
        _check_inside(found, path, image_folder)
    if not os.path.isfile(found):
        raise ImageError(
            f"Image file {shown(repr(found), 1000)} does not exist. Correct the path, or pass `image_folder`."
        )
    return found


def _check_inside(found: str, path: str, image_folder: str | os.PathLike | None) -> None:
    if image_folder is not None and not Path(os.path.realpath(found)).is_relative_to(os.path.realpath(image_folder)):
        raise ValueError(
            f"Image path {shown(repr(path), 1000)} leaves the image folder {os.fspath(image_folder)!r}. Move the file "
            "into it, or pass the folder that holds all images as `image_folder`."
        )


def _is_encodable(path: str) -> bool:
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        return False
    return True


def relative_image(stored: StoredImage, image_folder: str | os.PathLike) -> StoredImage:
    """
    Refer to an image by its path in a folder, from which [`resolve_image`] finds it again.

    Args:
        stored (`dict[str, Any]`):
            Image as [`resolve_image`] returns it.
        image_folder (`str` or `Path`):
            Folder that the file is in.

    Returns:
        `dict[str, Any]`:
            `{"bytes": None, "path": relative path}`.

    Raises:
        ValueError: the image is no file, or one outside the folder.
    """
    if stored["bytes"] is not None:
        raise ValueError(
            "an image is stored as bytes, so there is no file to refer to. Store images with `images='embed'` "
            "(`--images embed`)."
        )
    path, folder = os.path.abspath(stored["path"]), os.path.abspath(image_folder)
    if not Path(path).is_relative_to(folder):  # two names of one place, one of them through a link
        path, folder = os.path.realpath(path), os.path.realpath(folder)
    if not Path(path).is_relative_to(folder):
        raise ValueError(
            f"image {stored['path']!r} is not in the image folder {os.fspath(image_folder)!r}. Pass the folder that "
            "holds all images as `image_folder`, or store images with `images='embed'` (`--images embed`)."
        )
    return {"bytes": None, "path": Path(path).relative_to(folder).as_posix()}


def image_size(item: Any) -> tuple[int, int]:
    """
    Size of an image as [`open_image`] returns it. It is read from the head of the file, without decoding a pixel; only
    a PNG is read to its end, where its orientation may stand.

    Args:
        item (`str`, `Path`, `bytes`, `dict` or `PIL.Image.Image`):
            As in [`resolve_image`].

    Returns:
        `(int, int)`:
            Height and width in pixels.

    Raises:
        ImageError: the image is missing or not recognised.
    """
    with _opened(item) as image:
        return shown_size(image)
