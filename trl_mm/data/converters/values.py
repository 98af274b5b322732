"""Values as published rows hold them: texts, conversations, images, lists in columns, ratings."""

import json
import math
from typing import Any

from .left_out import LeftOut


ROLES = {"system": "system", "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}
_ROLE_KEYS, _CONTENT_KEYS = ("from", "role"), ("value", "content")
_IMAGE_TYPES = ("image", "image_url", "input_image")
_OTHER_TYPES = {
    **dict.fromkeys(("video", "video_url", "input_video"), "video"),
    **dict.fromkeys(("audio", "audio_url", "input_audio"), "sound"),
}
_IMAGE_KEYS = ("image", "image_url", "url", "path", "value")


def text_of(value: Any) -> str:
    """
    A text, or that of a message; `""` for `None` and for a message without one.

    Raises:
        TypeError: it is something else.
    """
    if isinstance(value, dict) and {*_CONTENT_KEYS} & {*value}:
        value = first_of(value, *_CONTENT_KEYS)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError(f"a text is a {type(value).__name__}")
    return value


def first_of(row: dict[str, Any], *names: str) -> Any:
    """The first of some values that is not `None`, with which Arrow fills up what a row lacks."""
    return next((row[name] for name in names if row.get(name) is not None), None)


def parsed(value: Any) -> Any:
    """
    What a JSON string holds; anything else is returned as it is.

    Raises:
        ValueError: it is no JSON.
    """
    try:
        return json.loads(value) if isinstance(value, str | bytes) else value
    except RecursionError as error:
        raise ValueError("JSON in a column is nested too deeply") from error


def records(value: Any, levels: int = 4) -> list[Any]:
    """
    A list of dictionaries, which `datasets` returns as one dictionary of lists, also inside one another.

    Args:
        value (`list` or `dict`): the list in one of these forms.
        levels (`int`, *optional*, defaults to `4`): how deep dictionaries may stand in one another.

    Raises:
        ValueError: the lists differ in length, or dictionaries are deeper.
        TypeError: it is neither.
    """
    if isinstance(value, dict):
        if not levels:
            raise ValueError("columns of columns are nested too deeply")
        columns = [records(column, levels - 1) if isinstance(column, dict) else column for column in value.values()]
        return [dict(zip(value, items, strict=True)) for items in zip(*columns, strict=True)]
    if not isinstance(value, list | tuple):
        raise TypeError(f"a list is a {type(value).__name__}")
    return list(value)


def conversation(turns: Any) -> tuple[list[dict[str, str]], list[Any]]:
    """
    Messages of a conversation, and the images that stand in them.

    Args:
        turns (`list` or `str`):
            Turns with `from` and `value` or `role` and `content`, the latter perhaps a list of parts; or JSON of them,
            or such a list in a list of its own.

    Returns:
        `tuple[list[dict[str, str]], list[Any]]`:
            Messages with `role` and a text as `content`, `<image>` where a part is an image; the images of such parts,
            in order.

    Raises:
        LeftOut: a part is a video or sound.
        LookupError: the writer of a turn is unknown.
        TypeError: it is no list of turns.
        ValueError: it is no JSON, or several conversations.
    """
    turns = records(parsed(turns))
    while turns and isinstance(turns[0], list):
        (turns,) = turns
    messages: list[dict[str, str]] = []
    images: list[Any] = []
    for turn in turns:
        role = ROLES[first_of(turn, *_ROLE_KEYS)]
        content = first_of(turn, *_CONTENT_KEYS)
        if isinstance(content, list):
            text = "".join(_part(part, images) for part in content)
        else:
            text = text_of(content)
        messages.append({"role": role, "content": text})
    return messages, images


def images_of(row: dict[str, Any], *names: str) -> list[Any]:
    """
    Images of a row as they are stored.

    Args:
        row (`dict[str, Any]`):
            Row with one image, a list or none.
        names (`str`):
            Columns that may hold them, `image` and `images` by default. The first that is neither `None` nor an empty
            text counts.
    """
    image = next((row[name] for name in names or ("image", "images") if not _is_none(row.get(name))), None)
    if isinstance(image, dict) and image and all(isinstance(value, list) for value in image.values()):
        return records(image)
    return list(image) if isinstance(image, list | tuple) else [] if image is None else [image]


def file_name(path: Any) -> Any:
    """Last part of a path, also of one written on Windows; an image that is no path is returned as it is."""
    return path.replace("\\", "/").rpartition("/")[2] if isinstance(path, str) else path


def rating_of(value: Any) -> float | None:
    """A rating as a number, `None` where it is none, such as "N/A"."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _is_none(image: Any) -> bool:
    """Whether a row has no image there: rows of text alone may have an empty path."""
    return image is None or (isinstance(image, str) and not image.strip())


def _part(part: dict[str, Any], images: list[Any]) -> str:
    if part.get("type") in _OTHER_TYPES:
        raise LeftOut(_OTHER_TYPES[part["type"]])
    if part.get("type") not in _IMAGE_TYPES:
        return text_of(first_of(part, "text", "value"))
    image = first_of(part, *_IMAGE_KEYS)
    images += [] if image is None else [image]
    return "<image>"
