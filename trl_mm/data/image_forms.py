"""Ways in which rows write an image down: paths, addresses, base64, and dictionaries around them."""

import base64
import binascii
import os
import re
from typing import Any
from urllib.parse import unquote, urlsplit

from .shown import shown


_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
# What base64 of a PNG, JPEG, GIF, WebP or TIFF begins with. That of a JPEG looks like an absolute path.
_BASE64_BEGINS = ("iVBORw0KGgo", "/9j/", "R0lGOD", "UklGR", "SUkqA", "TU0AK")
_SHORTEST_BASE64 = 64  # characters; no image is smaller
# Keys of dictionaries that hold an image, in messages for transformers and for endpoints
_KEYS = ("image", "url", "image_url", "base64")


class ImageError(ValueError):
    """An image that is missing or cannot be decoded, so that a caller may skip its row."""


def content_or_path(item: Any) -> tuple[bytes | None, Any]:
    """
    What is known of an image that a row names.

    Args:
        item (`Any`):
            Path, `file://` address, `data:` address, base64 of a file, content of a file, or a dictionary with `bytes`
            or `path` (as `datasets` stores images), or with `image`, `url`, `image_url` or `base64`.

    Returns:
        `(bytes or None, str, Path or None)`:
            Content and path, one of which is not `None`.

    Raises:
        ImageError: there is none, it is an address on the network, or base64 cannot be decoded.
        ValueError: `item` is none of the above.
    """
    if isinstance(item, bytes | bytearray | memoryview):
        return bytes(item), None
    if isinstance(item, dict):
        return _of_dictionary(item)
    if item is None:
        raise ImageError("An image is missing (null). Fill it in, or remove it from the row.")
    if isinstance(item, str):
        content = _embedded(item)
        return (content, None) if content is not None else (None, _local(item))
    if isinstance(item, os.PathLike):
        return None, os.fspath(item)
    raise ValueError(
        f"An image must be a path, bytes, a PIL image, or a dictionary with `bytes` or `path`, got {shown(item, 100)}."
    )


def _of_dictionary(item: dict[str, Any]) -> tuple[bytes | None, Any]:
    content, path = item.get("bytes"), item.get("path")
    if content is not None:
        if isinstance(content, str):  # JSON has no bytes
            content = _embedded(content) or _decoded(content)
        if not isinstance(content, bytes | bytearray | memoryview) or not isinstance(path, str | None):
            raise ValueError(
                "An image with `bytes` must have the content of its file there, as bytes or in base64, and a text or "
                f"nothing as `path`, got {shown(item, 100)}."
            )
        return bytes(content), path
    if path is not None:
        return content_or_path(path)
    key = next((key for key in _KEYS if item.get(key) is not None), None)
    if key == "base64" and isinstance(item[key], str):
        return _embedded(item[key]) or _decoded(item[key]), None
    if key is not None:
        return content_or_path(item[key])
    if item.keys() <= {"bytes", "path", *_KEYS} and item:
        raise ImageError("An image is missing: it has neither `bytes` nor `path`. Fill it in, or remove it.")
    raise ValueError(
        f"An image must be a path, bytes, a PIL image, or a dictionary with `bytes` or `path`, got {shown(item, 100)}."
    )


def _embedded(text: str) -> bytes | None:
    """Content of a `data:` address or of base64 that begins as an image does, else `None`."""
    if text.startswith("data:"):
        head, _, content = text.partition(",")
        if not head.endswith(";base64"):
            raise ImageError(f"The image {shown(repr(text), 60)} is no base64. Write data:image/png;base64,…")
        return _decoded(content)
    if len(text) >= _SHORTEST_BASE64 and text.startswith(_BASE64_BEGINS) and not os.path.exists(text):
        return _decoded(text)
    return None


def _decoded(text: str) -> bytes:
    text = "".join(text.split())
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ImageError(
            f"The image {shown(repr(text), 60)} is no base64: {error}. Write the content of the file in base64, or "
            "its path."
        ) from error


def _local(text: str) -> str:
    """The path that a text names, without `file://`."""
    if not _ADDRESS.match(text):
        return text
    address = urlsplit(text) if text.lower().startswith("file:") else None
    if address is None or address.netloc not in ("", "localhost"):
        raise ImageError(
            f"The image {shown(repr(text))} is an address, and nothing is fetched from the network for rows. "
            "Download the images, and name their files."
        )
    return unquote(address.path)
