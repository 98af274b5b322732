"""What an endpoint writes, made fit for terminals, files and messages."""

import base64
from urllib.parse import quote


LONGEST = 300  # characters of a message that are shown
_PIECE = 8  # characters of a key that give it away


def whole_characters(text):
    """Text without halves of characters, which no file takes: where a limit cuts an emoji, some servers send one."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def shown(text, key):
    """
    Beginning of a text on one line, with nothing in it that steers a terminal, and without the key.

    Args:
        text (`str`): what an endpoint said.
        key (`str`): key that it may have repeated, also encoded or in pieces; empty if there is none.
    """
    # Looked at before it is cut, as a key that is cut is not found; more than this is never shown
    text = "".join(character if character.isprintable() else " " for character in text[: 20 * LONGEST])
    return without_key(" ".join(text.split()), key)[:LONGEST]


def without_key(text, key):
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
