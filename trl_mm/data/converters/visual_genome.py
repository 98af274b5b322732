"""Pairs on images of Visual Genome, which everybody keeps elsewhere: SENTINEL and HA-DPO."""

import re
from typing import Any
from zlib import crc32

from .left_out import LeftOut
from .pairs import pair, rows_of
from .values import file_name, images_of, text_of


_FOLDER = re.compile(r"VG_100K(?:_2)?/[^/]+$")
# HA-DPO publishes descriptions without questions
_DESCRIBE = (
    "Describe this image in detail.",
    "What can be seen in this image? Describe it as a whole.",
    "Write a detailed description of this picture.",
    "Tell me in detail what this picture shows.",
)


def sentinel(row: dict[str, Any]) -> dict[str, Any]:
    """
    ```python
    {"image_path": "/data/VG/VG_100K/2316003.jpg", "question": "Describe the image.",
     "context": "A man stands on a beach.",   # what was said before, without hallucination; may be empty
     "y_win": "He holds a board.", "y_lose": "He holds an umbrella."}
    ```

    The context begins both answers, so it ends the prompt, as a turn of the assistant that the answer goes on with: it
    is read, and not trained on.
    """
    images = [in_visual_genome(image) for image in images_of(row, "image_path", "image")]
    prompt = [{"role": "user", "content": text_of(row["question"])}]
    context = text_of(row.get("context")).strip()
    if context:
        prompt.append({"role": "assistant", "content": context})
    answers = [" " * bool(context) + text_of(row[name]).strip() for name in ("y_win", "y_lose")]
    return pair(images, prompt, *answers, dataset="SENTINEL")


def ha_dpo(row: dict[str, Any]) -> dict[str, Any] | list[dict[str, Any]]:
    """
    ```python
    {"image_id": 2316003,   # a row of desc_data.json, which is one object of such rows by `image_id`
     "chosen": ["A man stands on a beach.", "A man at the sea."], "rejected": ["A man with a dog.", "Two men."]}
    {"image_id": 2316003, "question": "Is there a dog?", "answer": "no",   # one of pope_data.json
     "correct": False, "chosen": "No, there is none.", "reject": "Yes, there is a dog."}
    ```

    Each chosen description against each rejected one, after one of our own questions that the image chooses, since the
    file has none; questions whose answer was correct are left out. Images are named by their number alone.
    """
    number = row["image_id"]
    name = number if isinstance(number, str) and "." in number else f"{number}.jpg"
    images, known = [file_name(name)], {"dataset": "HA-DPO"}
    if not isinstance(row["chosen"], list):
        if row.get("correct") is True:
            raise LeftOut("the answer was correct")
        rejected = row["reject"] if row.get("reject") is not None else row["rejected"]
        return pair(images, row["question"], row["chosen"], rejected, source="pope", **known)
    question = row.get("question") or _DESCRIBE[crc32(str(number).encode("utf-8", "replace")) % len(_DESCRIBE)]
    known = {**known, "source": "desc"}
    twos = [(images, question, good, bad, known) for good in row["chosen"] for bad in row["rejected"]]
    return rows_of(twos, row_id=f"{number}")


def in_visual_genome(path: Any) -> Any:
    """Path within Visual Genome, whose two folders are the same for everybody; the file's name if it is in neither."""
    found = _FOLDER.search(path.replace("\\", "/")) if isinstance(path, str) else None
    return found[0] if found else file_name(path)
