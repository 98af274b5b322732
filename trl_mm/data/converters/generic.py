"""Pairs of any dataset whose columns have one of the usual names, or hold what only such a column holds."""

from collections.abc import Callable, Iterable
from typing import Any

from .conversations import rest_of, with_system
from .pairs import Row, pair
from .values import conversation, images_of


# Names by which columns are known, in order of preference; compared without case, `_`, `-` and spaces
PROMPT = ("prompt", "question", "query", "instruction", "queries", "user prompt", "input", "problem", "conversations")
CHOSEN = (
    *("chosen", "chosen response", "response chosen", "chosen answer", "answer chosen", "chosen caption", "preferred"),
    *(
        "preferred response",
        "preferred answer",
        "accepted",
        "y w",
        "y win",
        "yw",
        "win",
        "winner response",
        "response w",
    ),
    *("positive", "better", "better response", "good answer", "good"),
)
REJECTED = (
    *("rejected", "reject", "rejected response", "response rejected", "rejected answer", "answer rejected"),
    *("rejected caption", "dispreferred", "dispreferred response", "dispreferred answer", "non preferred"),
    *("nonpreferred response", "y l", "y lose", "yl", "lose", "loser response", "response l", "negative", "worse"),
    *("worse response", "bad answer", "bad"),
)
IMAGES = (
    *("images", "image", "imgs", "img", "image bytes", "img bytes", "picture", "photo", "image path", "image paths"),
    *("img path", "img paths", "image file", "image files", "image filename", "image name", "file name", "image url"),
)
_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")


def generic(row: dict[str, Any]) -> dict[str, Any]:
    """
    ```python
    {"question": "What is it?",        # or prompt, query, instruction, conversations, ...
     "preferred": "A dog.",            # or chosen, y_w, y_win, win, response_w, ...; a text, or messages
     "dispreferred": "Two dogs.",      # or rejected, y_l, y_lose, lose, response_l, ...
     "img_path": "dog.jpg",            # or image, images, ...; none for text alone
     "input": "...",                   # after an `instruction`, as in Alpaca's layout
     "system": "Be brief."}            # rarely
    ```

    Columns are known by their names; images, if by none, by what is in them. Other columns stay.

    Raises:
        LookupError: there is no question, or no two answers.
    """
    names = columns_of(row)
    missing = [name for name in ("prompt", "chosen", "rejected") if name not in names]
    if missing:
        raise KeyError(f"no column that is known as {' or '.join(missing)}: name them with `columns`")
    known = rest_of(row, *names.values(), "system", "id", "row_id")
    (chosen, images), (rejected, _) = (_answer(row[names[name]]) for name in ("chosen", "rejected"))
    question = row[names["prompt"]]
    more = known.pop("input") if names["prompt"] == "instruction" and isinstance(row.get("input"), str) else ""
    prompt, inline = _prompt(f"{question}\n{more}" if more.strip() else question)
    images = images_of(row, names["images"]) if "images" in names else inline or images
    number = row["row_id"] if row.get("row_id") is not None else row.get("id")
    return pair(images, with_system(prompt, row.get("system")), chosen, rejected, row_id=number, **known)


def columns_of(row: dict[str, Any]) -> dict[str, str]:
    """
    Which columns of a row hold what a pair needs.

    Args:
        row (`dict[str, Any]`): row as it is stored.

    Returns:
        `dict[str, str]`:
            From `prompt`, `chosen`, `rejected` and `images` to the name of a column, where one is known.
    """
    plain = {_plain(name): name for name in reversed(row) if isinstance(name, str) and row[name] is not None}
    names = {
        "prompt": _first(row, plain, PROMPT, _is_said),
        "chosen": _first(row, plain, CHOSEN, _is_said),
        "rejected": _first(row, plain, REJECTED, _is_said),
        "images": _first(row, plain, IMAGES, _may_be_images),
    }
    if names["images"] is None:
        names["images"] = next((name for name, value in row.items() if _looks_like_image(value)), None)
    return {name: column for name, column in names.items() if column is not None}


def is_written_plainly(row: dict[str, Any]) -> bool:
    """Whether a row holds a question and two answers in other columns than those of the format."""
    names, texts = columns_of(row), ("prompt", "chosen", "rejected")
    ours = all(names.get(name) == name for name in texts) and names.get("images", "images") in ("images", "image")
    return {*texts} <= {*names} and not (ours and {"images", "image"} & {*row})


def _first(row: Row, plain: dict[str, str], known: Iterable[str], fits: Callable[[Any], bool]) -> str | None:
    found = (plain[_plain(name)] for name in known if _plain(name) in plain)
    return next((name for name in found if fits(row[name])), None)


def _plain(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())


def _is_said(value: Any) -> bool:
    """Whether a value is a text, a message, or a list of messages."""
    values = value if isinstance(value, list) else [value]
    return bool(values) and all(
        isinstance(item, dict) and bool({"content", "value"} & {*item}) or (item is value and isinstance(item, str))
        for item in values
    )


def _may_be_images(value: Any) -> bool:
    values = value if isinstance(value, list | tuple) else [value]
    return all(not isinstance(item, int | float | list) for item in values)


def _looks_like_image(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return bool(value) and all(not isinstance(item, list | tuple) and _looks_like_image(item) for item in value)
    if isinstance(value, dict):
        return bool(value) and {*value} <= {"bytes", "path"}
    is_path = isinstance(value, str) and "\n" not in value and value.lower().endswith(_SUFFIXES)
    return is_path or (hasattr(value, "convert") and hasattr(value, "size"))


def _prompt(value: Any) -> tuple[list[dict[str, str]], list[Any]]:
    if isinstance(value, str):
        return [{"role": "user", "content": value}], []
    messages, images = conversation(value if isinstance(value, list) else [value])
    if messages and messages[-1]["role"] == "assistant":
        raise ValueError("the prompt ends with an answer")
    return messages, images


def _answer(value: Any) -> tuple[str, list[Any]]:
    """Text of an answer, or of the last message of one, and the images in it."""
    if isinstance(value, str):
        return value, []
    messages, images = conversation(value if isinstance(value, list) else [value])
    return messages[-1]["content"], images
