"""Small copies of images, as data URIs that are part of a page."""

import base64
import io

from PIL import Image, ImageOps


DRAWING_COLORS = 4096  # more than a drawing has, even with soft edges
JPEG_QUALITIES = (75, 50, 30)


def thumbnail(image: Image.Image, pixels: int = 256, max_bytes: int | None = None) -> dict[str, str | int]:
    """
    A small copy of an image: PNG for drawings, which stay sharp, JPEG for photographs.

    Args:
        image (`PIL.Image.Image`):
            Image in any mode. It is not changed.
        pixels (`int`, *optional*, defaults to `256`):
            Longest side of the copy, in pixels.
        max_bytes (`int`, *optional*):
            Most bytes of the copy, before base64 makes a third more of them. A copy that needs more loses first
            quality, then pixels.

    Returns:
        `dict[str, str | int]`:
            `uri`, and `width` and `height` in pixels.
    """
    small = ImageOps.exif_transpose(image)  # a copy
    transparent = small.has_transparency_data
    small = small.convert("RGBA" if transparent else "RGB")
    small.thumbnail((pixels, pixels))
    if transparent or small.getcolors(DRAWING_COLORS):
        content = _encoded(small, "png")
        if max_bytes is None or len(content) <= max_bytes:
            return _uri(small, "png", content)
        small = _on_white(small) if transparent else small
    while True:
        for quality in JPEG_QUALITIES:
            content = _encoded(small, "jpeg", quality=quality)
            if max_bytes is None or len(content) <= max_bytes or max(small.size) == 1:
                return _uri(small, "jpeg", content)
        small = small.resize((max(1, small.width // 2), max(1, small.height // 2)))


def _on_white(image: Image.Image) -> Image.Image:
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")


def _encoded(image: Image.Image, kind: str, **settings: int) -> bytes:
    file = io.BytesIO()
    image.save(file, format=kind, **settings)
    return file.getvalue()


def _uri(image: Image.Image, kind: str, content: bytes) -> dict[str, str | int]:
    uri = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    return {"uri": uri, "width": image.width, "height": image.height}
