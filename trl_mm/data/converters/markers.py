"""
Texts with `<image>` in them, as published prompts mark the place of an image, made into messages.

TRL takes `<image>` for plain text. Where all images stand at the edges of the first question, which is where chat
templates put them anyway, the marker is just removed; elsewhere it becomes a part of the message.
"""

import re
from typing import Any


# `<image>`, also as `<Image>`, `< image >`, `<ImageHere>`, `<image-placeholder>` and `<|image|>`
_MARKER = re.compile(r"<\|?\s*image(?:[ _-]?(?:placeholder|here|token|pad))?\s*\|?>", re.IGNORECASE)
_NUMBERED = re.compile(r"<\|?\s*image[ _-]?(\d{1,3})\s*\|?>", re.IGNORECASE)
_MARK = "<image>"
_PASSES = 5  # what is left when markers are taken out may be one again; a text of such takes as many passes


def without_markers(text: str) -> str:
    """
    The text without markers of images; spaces around one go with it. Without markers, it is the text itself.

    Raises:
        ValueError: markers stand in one another.
    """
    for _ in range(_PASSES):
        if not _MARKER.search(text):
            return text
        text = " ".join(piece.strip() for piece in _MARKER.split(text) if piece.strip())
    raise ValueError("markers of images stand in one another. Remove them from the text")


def marked_prompt(messages: list[dict[str, str]], num_images: int) -> list[dict[str, Any]]:
    """
    Messages of a prompt whose images stand where their markers say.

    Args:
        messages (`list[dict[str, str]]`):
            Messages with texts. Only a user shows images: in other messages markers are removed.
        num_images (`int`):
            Images of the row. Numbered markers (`<image_1>`, `<image 2>`) count where each image has one, in order;
            otherwise they are names that the text gives to images.

    Returns:
        `list[dict[str, Any]]`:
            New messages. None holds a marker; a content with a place for an image is a list of parts.
    """
    shown = [message["content"] for message in messages if message["role"] == "user"]
    numbers = [int(number) for text in shown for number in _NUMBERED.findall(text)]
    is_numbered = bool(numbers) and numbers == [*range(1, num_images + 1)] and not any(map(_MARKER.search, shown))
    pieces = [
        (_NUMBERED.sub(_MARK, message["content"]) if is_numbered else message["content"])
        if message["role"] == "user"
        else without_markers(message["content"])
        for message in messages
    ]
    counts = [len(_MARKER.findall(text)) for text in pieces]
    first = next((place for place, message in enumerate(messages) if message["role"] == "user"), 0)
    if sum(counts) == num_images and counts[first : first + 1] == [num_images] and _at_edges(pieces[first]):
        pieces[first] = without_markers(pieces[first])
    return [{**message, "content": _content(text)} for message, text in zip(messages, pieces, strict=True)]


def _at_edges(text: str) -> bool:
    return sum(bool(piece.strip()) for piece in _MARKER.split(text)) < 2


def _content(text: str) -> str | list[dict[str, str]]:
    texts = _MARKER.split(text)
    if len(texts) == 1:
        return text
    parts: list[dict[str, str]] = []
    for place, piece in enumerate(texts):
        parts += [{"type": "image"}] if place else []
        parts += [{"type": "text", "text": without_markers(piece.strip())}] if piece.strip() else []
    return parts
