"""
The row format: TRL's vision format and nothing of our own.

```python
{"images": [image, ...],  # [] for a text-only row
 "prompt": [{"role": "user", "content": "What is this?"}],
 "chosen": [{"role": "assistant", "content": "A cat."}],
 "rejected": [{"role": "assistant", "content": "A cat on a sofa."}]}
```

An SFT row has no `rejected`, a prompt row has neither answer. A prompt may end with a message of the assistant: the
beginning of both answers. Other columns are provenance and are kept.
"""

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any

from .layouts import layout_hint, with_image_parts, with_known_columns
from .row_limits import MAX_CHARACTERS, MAX_IMAGES
from .shown import shown, shown_names


PREFERENCE_COLUMNS = ("images", "prompt", "chosen", "rejected")
# What trainers put into rows themselves. In data, such a column would take the place of what it says of a row.
INTERNAL_COLUMNS = (
    "answer_ids",
    "vllm_prompt",
    "second_rejected",
    "ref_chosen_logps",
    "ref_rejected_logps",
)
IMAGE_MARKER = "<image>"
_MESSAGE_ROLES = {"prompt": "user", "chosen": "assistant", "rejected": "assistant", "second_rejected": "assistant"}
_MESSAGE_COLUMNS = (*_MESSAGE_ROLES, "messages", "completion")


def message_text(message: dict[str, Any]) -> str:
    """
    Text of a message.

    Args:
        message (`dict[str, Any]`):
            Message whose `"content"` is a string, a list of parts, or `None` (an assistant turn of tool calls only).

    Returns:
        `str`:
            The content, or its text parts joined without a separator.
    """
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "".join(part.get("text") or "" for part in content if part["type"] == "text")


def normalize_row(row: dict[str, Any], where: str) -> dict[str, Any]:
    """
    Bring a row into the row format. What this cannot repair stays as it is, for [`check_row`] to report.

    - Layouts that mean one thing only get the columns of the format ([`with_known_columns`]).
    - `image` becomes `images`, a list; `None` becomes `[]`.
    - A string under `prompt`, `chosen` or `rejected` becomes a list of one message.
    - The marker `<image>` in a prompt, plain text to TRL, becomes an image part. At the edges of the only message
      that has any it is just removed, because TRL puts the images in front of the first user message.
    - An image inside the prompt moves to `images`: `{"type": "image", "image": ...}`, or with `url`, `path`, `base64`
      or `image_url` as the key.
    - Keys of messages and parts whose value is `None` are removed: Arrow fills them in, and TRL takes a part with the
      key `"image"` for one that has its image already.

    Args:
        row (`dict[str, Any]`):
            Row with any of the columns of the format, and any others. It is not modified.
        where (`str`):
            File and row number, for errors.

    Returns:
        `dict[str, Any]`:
            New row.

    Raises:
        ValueError: the row is no dictionary, or has both `image` and `images`.
    """
    if not isinstance(row, dict):
        raise ValueError(f"{where}: a row must be an object with named columns, got {shown(row, 100)}.")
    messages = {name: with_image_parts(without_none(row[name])) for name in _MESSAGE_COLUMNS if name in row}
    row = with_known_columns({**row, **messages})
    if "image" in row:
        image = row.pop("image")
        if image is not None and row.get("images") is not None:
            raise ValueError(f"{where}: the row has both `image` and `images`. Remove one of the two columns.")
        row["images"] = row.get("images") if image is None else image
    if "images" in row:
        images = row["images"]
        row["images"] = [] if images is None else list(images) if isinstance(images, list | tuple) else [images]
    for name, role in _MESSAGE_ROLES.items():
        if isinstance(row.get(name), str):
            row[name] = [{"role": role, "content": row[name]}]
    if "prompt" in row and _message_error(row["prompt"]) is None:
        if any("image" in part for part in _image_parts(row["prompt"])):
            row["images"] = _take_images(row["prompt"], row.get("images", []))
        row["prompt"] = _replace_markers(row["prompt"], len(row.get("images", [])))
    return row


def check_row(row: dict[str, Any], where: str, needs: Sequence[str] = PREFERENCE_COLUMNS) -> None:
    """
    Check that a row can be trained on.

    Args:
        row (`dict[str, Any]`):
            Row as [`normalize_row`] returns it.
        where (`str`):
            File and row number, for errors.
        needs (`Sequence[str]`, *optional*, defaults to `("images", "prompt", "chosen", "rejected")`):
            Columns that must be there. Others are not looked at.

    Raises:
        ValueError: a column is missing or misnamed, a prompt or answer is empty or no list of messages, an answer
            holds an image or does not end with a message of the assistant, the number of image placeholders is neither
            0 nor the number of images, or there are more than 256 images or a million characters.
    """
    for name in needs:
        if name not in row:
            near = difflib.get_close_matches(name, [column for column in row if column not in needs], n=1, cutoff=0.5)
            hints = {
                "images": " If these are rows without images, give each an empty list.",
                "rejected": (
                    " SFT rows have none: make it with `trl-mm bdhs` or a `BDHSDataGenerator`, or load them with "
                    "`needs=('images', 'prompt', 'chosen')`."
                ),
            }
            raise ValueError(
                f"{where}: column `{name}` is missing. Found: {shown_names(row) or 'none'}. Needed: "
                f"{', '.join(needs)}.{f' Is `{near[0]}` meant?' if near else ''} Rename the column, or pass a "
                f"`converter` that returns rows with these names.{layout_hint(row) or hints.get(name, '')}"
            )
    num_images = len(row.get("images", []))
    if num_images > MAX_IMAGES:
        raise ValueError(
            f"{where}: the row has {num_images:,} images, more than {MAX_IMAGES}. Split it, or remove it."
        )
    for name in (name for name in needs if name in _MESSAGE_ROLES):
        error = _message_error(row[name])
        if error:
            raise ValueError(f"{where}: `{name}` must be a string or a list of messages, but {error}.")
        length = sum(len(message_text(message)) for message in row[name])
        if length > MAX_CHARACTERS:
            raise ValueError(
                f"{where}: `{name}` has {length:,} characters, more than {MAX_CHARACTERS:,}. Shorten it, or "
                "remove the row."
            )
        if name == "prompt":
            if not any(message["role"] == "user" for message in row[name]):
                raise ValueError(f"{where}: `prompt` has no message of the role user, so there is nothing to answer.")
            count = _count_placeholders(row[name])
            if count not in (0, num_images):
                raise ValueError(
                    f"{where}: the number of image placeholders in `prompt` ({count}) differs from the number of "
                    f"images ({num_images}). Give one image per placeholder, or none: the images then come first."
                )
        elif _count_placeholders(row[name]):
            raise ValueError(
                f"{where}: `{name}` holds an image or {IMAGE_MARKER}. Images belong in the prompt: move it there, or "
                "remove it from the answer."
            )
        elif row[name][-1]["role"] != "assistant":
            raise ValueError(
                f"{where}: `{name}` ends with a message of the role {row[name][-1]['role']}, not assistant, so there "
                "is no answer to train on. Turns before the answer belong in `prompt`."
            )
        said = row[name] if name == "prompt" else row[name][-1:]
        is_empty = not any(message_text(message).strip() or message.get("tool_calls") for message in said)
        if is_empty and not (name == "prompt" and num_images):
            raise ValueError(f"{where}: `{name}` is empty. Remove the row, or fill in the text.")


def has_parts(row: dict[str, Any]) -> bool:
    """Whether the content of a message of a checked row is a list of parts."""
    return any(isinstance(m.get("content"), list) for name in _MESSAGE_ROLES for m in row.get(name) or [])


def as_parts(row: dict[str, Any], columns: Iterable[str] = _MESSAGE_ROLES) -> dict[str, Any]:
    """
    Write the content of every message in these columns of a checked row as a list of parts. A stored column needs
    this if any of its rows has parts. Images without a placeholder get theirs before the first user message, as TRL
    does it.
    """
    row = dict(row)
    for name in columns:
        if row.get(name):
            row[name] = _as_parts(row[name], len(row.get("images", [])) if name == "prompt" else 0)
    return row


def without_none(value: Any) -> Any:
    """Copy of nested lists and dictionaries without the keys whose value is `None`."""
    if isinstance(value, dict):
        return {key: without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_none(item) for item in value]
    return value


def _message_error(messages: Any) -> str | None:
    if not isinstance(messages, list) or not messages:
        return f"it is {shown(messages, 100)}"
    for message in messages:
        if not isinstance(message, dict) or message.get("role") not in ("system", "user", "assistant", "tool"):
            return f"a message needs a `role` (system, user, assistant, tool) and `content`, got {shown(message, 100)}"
        content = message.get("content")
        if isinstance(content, str) or (content is None and message["role"] == "assistant"):
            continue
        if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
            return f"the content of a message must be a string or a list of parts, got {shown(content, 100)}"
        for part in content:
            if part.get("type") not in ("text", "image"):
                return f"a part must have the `type` text or image, got {shown(part, 100)}"
    return None


def _image_parts(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    contents = [m["content"] for m in messages if isinstance(m.get("content"), list)]
    return [part for content in contents for part in content if part["type"] == "image"]


def _count_placeholders(messages: list[dict[str, Any]]) -> int:
    return len(_image_parts(messages)) + sum(message_text(message).count(IMAGE_MARKER) for message in messages)


def _take_images(messages: list[dict[str, Any]], images: list[Any]) -> list[Any]:
    remaining = iter(images)
    taken = [part.pop("image") if "image" in part else next(remaining, None) for part in _image_parts(messages)]
    return [image for image in taken if image is not None] + list(remaining)


def _replace_markers(messages: list[dict[str, Any]], num_images: int) -> list[dict[str, Any]]:
    marked = [message for message in messages if IMAGE_MARKER in message_text(message)]
    users = [message for message in messages if message["role"] == "user"]
    if marked and marked == users[:1] and isinstance(marked[0]["content"], str):
        text = marked[0]["content"].strip()
        while text.startswith(IMAGE_MARKER) or text.endswith(IMAGE_MARKER):
            text = text.removeprefix(IMAGE_MARKER).removesuffix(IMAGE_MARKER).strip()
        if IMAGE_MARKER not in text and _count_placeholders(messages) == num_images:
            marked[0]["content"] = text
            marked = []
    if marked or any(isinstance(message.get("content"), list) for message in messages):
        return _as_parts(messages, num_images)
    return messages


def _as_parts(messages: list[dict[str, Any]], num_images: int) -> list[dict[str, Any]]:
    missing = 0 if _count_placeholders(messages) else num_images
    result = []
    for message in messages:
        content = message.get("content")
        if isinstance(content, str):
            content = [{"type": "text", "text": content}]
        if content is not None:
            parts = [piece for part in content for piece in _split_markers(part)]
            if message["role"] == "user":
                parts, missing = [{"type": "image"} for _ in range(missing)] + parts, 0
            message = {**message, "content": parts}
        result.append(message)
    return result


def _split_markers(part: dict[str, Any]) -> list[dict[str, Any]]:
    if IMAGE_MARKER not in (part.get("text") or ""):
        return [part]
    # Chat templates put their own line breaks around an image, so the spaces around a marker go with it.
    pieces = re.split(rf"\s*({IMAGE_MARKER})\s*", part["text"])
    return [
        {"type": "image"} if piece == IMAGE_MARKER else {"type": "text", "text": piece} for piece in pieces if piece
    ]
