"""How a converter says that a row is no preference pair, though nothing is wrong with the file."""

from collections.abc import Mapping
from typing import Any


class LeftOut(Exception):
    """
    Raised by a converter for a row that it leaves out: a tie, an empty answer, a rating that is no number, a video.
    Such rows are counted by their reason and listed in `bad_rows.jsonl`.

    Args:
        reason (`str`): why, in few words and the same for all rows of the kind: rows are counted by it.
    """


def leave_out_video(row: Mapping[str, Any]) -> None:
    """Raise [`LeftOut`] for a row that is about a video, and no image."""
    if any(row.get(name) for name in ("video", "videos")) and not any(row.get(name) for name in ("image", "images")):
        raise LeftOut("video")
