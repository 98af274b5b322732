"""Cards of the gallery: images as thumbnails, and answers with their marks."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from PIL import Image

from .thumbnails import thumbnail


Mark = tuple[int, int, Literal["bad", "good"]]
Picture: TypeAlias = Image.Image | str


@dataclass
class GalleryItem:
    """
    One card of the gallery.

    Args:
        image (`PIL.Image.Image`, `str` or `list` of these, *optional*):
            What was asked about: an image, several, or what to say in place of one that cannot be shown. `None` for a
            text-only row.
        title (`str`, *optional*, defaults to `""`):
            Heading of the card.
        answers (`list[tuple[str, str, list[Mark]]]`, *optional*, defaults to `[]`):
            Label, text, and marks of the text. A mark is `(start, end, "bad" | "good")`, in characters.
        prompt (`str`, *optional*, defaults to `""`):
            Text above the answers.
        values (`dict[str, float | str | None]`, *optional*, defaults to `{}`):
            What the filters of [`Page.browser`] go by.
    """

    image: Picture | Sequence[Picture] | None = None
    title: str = ""
    answers: list[tuple[str, str, list[Mark]]] = field(default_factory=list)
    prompt: str = ""
    values: dict[str, float | str | None] = field(default_factory=dict)


def card(
    item: GalleryItem, filters: Iterable[str] = (), pixels: int = 256, max_bytes: int | None = None
) -> dict[str, Any]:
    """What the template needs of a card (`dict[str, Any]`), its images as thumbnails."""
    pictures = (
        [] if item.image is None else [item.image] if isinstance(item.image, Image.Image | str) else list(item.image)
    )
    share = max_bytes and max_bytes // max(1, len(pictures))
    return {
        "pictures": [
            {"missing": picture} if isinstance(picture, str) else thumbnail(picture, pixels, share)
            for picture in pictures
        ],
        "title": item.title,
        "prompt": item.prompt,
        "filtered": [item.values.get(name) for name in filters],
        "answers": [(label, _segments(text, marks)) for label, text, marks in item.answers],
    }


def _segments(text: str, marks: Iterable[Mark]) -> list[tuple[str, str]]:
    """Cuts `text` at its marks, into pairs of text and class, `""` for what is not marked."""
    segments, position = [], 0
    for start, end, kind in sorted(marks):
        if kind not in ("bad", "good"):
            raise ValueError(f"A mark must be 'bad' or 'good', got {kind!r}.")
        if not position <= start <= end <= len(text):
            raise ValueError(
                f"The mark ({start}, {end}) overlaps another or leaves its text of {len(text)} characters."
            )
        segments += [(text[position:start], ""), (text[start:end], kind)]
        position = end
    return [segment for segment in [*segments, (text[position:], "")] if segment[0]]
