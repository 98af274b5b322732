"""Replies of a model on disk, under a digest of what it was asked: a run that is resumed asks nothing twice."""

import hashlib
import json
import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ..data.atomic_file import replacing
from .endpoint_text import whole_characters


class ReplyCache:
    """
    Replies in a folder, one file each, so that any number of processes and runs can share it.

    Args:
        folder (`str` or `Path`): the folder; it is made with the first reply.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder)

    def get(self, key: str) -> str | None:
        """Reply (`str`) to what has this key, or `None`; a damaged file counts for none."""
        try:
            reply = json.loads(self._path(key).read_text(encoding="utf-8"))["reply"]
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return None
        return whole_characters(reply) if isinstance(reply, str) else None

    def put(self, key: str, reply: str) -> None:
        """Keep a reply (`str`). It appears under its name when it is complete."""
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, uuid.uuid4().hex) as file:
            file.write(json.dumps({"reply": reply}).encode())

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"


def reply_key(request: Mapping[str, Any], images: Sequence[Image.Image]) -> str:
    """
    Digest of a question.

    Args:
        request (`dict`): model, text and settings, as JSON values.
        images (`list[PIL.Image.Image]`): what is shown, before it is encoded.

    Returns:
        `str`
    """
    digest = hashlib.sha256(json.dumps(request, sort_keys=True).encode())
    for image in images:
        digest.update(f"{image.mode} {image.size} ".encode() + hashlib.sha256(image.tobytes()).digest())
    return digest.hexdigest()
