"""What an endpoint writes, read, and made fit for terminals, files and messages."""

import base64
import json
from typing import Any
from urllib.parse import quote

from .bounded_http import BadReply


LONGEST = 300  # characters of a message that are shown
_PIECE = 8  # characters of a key that give it away


def whole_characters(text: str) -> str:
    """Text without halves of characters, which no file takes: where a limit cuts an emoji, some servers send one."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def shown(text: str, key: str) -> str:
    """
    Beginning of a text on one line, with nothing in it that steers a terminal, and without the key.

    Args:
        text (`str`): what an endpoint said.
        key (`str`): key that it may have repeated, also encoded or in pieces; empty if there is none.
    """
    # Looked at before it is cut, as a key that is cut is not found; more than this is never shown
    text = "".join(character if character.isprintable() else " " for character in text[: 20 * LONGEST])
    return without_key(" ".join(text.split()), key)[:LONGEST]


def without_key(text: str, key: str) -> str:
    """Text with `***` in place of a key, its URL-encoded and base64-encoded forms, and their longer pieces."""
    if not key:
        return text
    forms = [key, quote(key, safe=""), quote(key, safe="").lower()]
    for shift in range(3):  # where it stands in what is encoded: three bytes become four characters
        encoded = base64.b64encode(b"\0" * shift + key.encode())
        forms += [encoded.decode(), encoded.translate(bytes.maketrans(b"+/", b"-_")).decode()]
    if len(key) < _PIECE:
        for form in forms[:2]:
            text = text.replace(form, "***")
    pieces = {form[start : start + _PIECE] for form in forms for start in range(len(form) - _PIECE + 1)}
    hidden = {
        place
        for start in range(len(text) - _PIECE + 1)
        if text[start : start + _PIECE] in pieces
        for place in range(start, start + _PIECE)
    }
    return "".join(
        character if place not in hidden else "" if place - 1 in hidden else "***"
        for place, character in enumerate(text)
    )


def json_of(content: bytes) -> Any:
    """What JSON (`bytes`) says, `None` if it is none or is nested too deeply to be read."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def reply_of(said: Any) -> str | None:
    """What the model wrote (`str`), or `None` if this is no chat completion."""
    try:
        content = said["choices"][0]["message"]["content"]
    except (TypeError, KeyError, IndexError):
        return None
    return "" if content is None else whole_characters(content) if isinstance(content, str) else None


def message_of(said: Any, content: bytes, api_key: str) -> str:
    """
    Beginning of the message in a reply, which ends with a full stop: `{"error": {"message": ...}}` of OpenAI, `error`
    or `message` as a text, or FastAPI's `detail`, a text or a list of objects with `msg`.
    """
    message = None
    if isinstance(said, dict):
        message = next((said[key] for key in ("error", "detail", "message") if said.get(key)), None)
    if isinstance(message, dict):
        message = message.get("message")
    if isinstance(message, list):
        message = "; ".join(str(part["msg"]) for part in message if isinstance(part, dict) and "msg" in part) or None
    text = message if isinstance(message, str) else content.decode(errors="replace")
    return f"{shown(text, api_key) or 'nothing'}".rstrip(".") + "."


def broken(error: Exception, api_key: str) -> str:
    """Why there is no reply, which ends with a full stop: some errors of a connection say nothing but their name."""
    text = str(error) or "the connection broke"
    named = text if isinstance(error, BadReply) else f"{type(error).__name__}: {text}"
    return f"{shown(named, api_key)}".rstrip(".") + "."
