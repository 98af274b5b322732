"""Pairs of two images and an answer to each: what is right for one image is wrong for the other."""

from typing import Any

from .pairs import Row, rows_of
from .values import conversation, images_of, text_of


def ic_vco(row: dict[str, Any]) -> list[Row]:
    """
    ```python
    {"prompt": "What is on the table?", "images": ["a.jpg", "a_edited.jpg"],   # or `images_file_names`
     "chosen": "A cup.", "rejected": "A bowl.",   # of the first image, and of the second
     "chosen_response_spans": [[2, 5]], "rejected_response_spans": [[2, 6]]}
    ```

    IC-VCO (arXiv 2605.31312), which is trained symmetrically: two pairs, the second about the second image with the
    answers exchanged. The places of what differs, in characters, stay.
    """
    images = images_of(row, "images", "images_file_names", "image")
    if len(images) != 2:
        raise ValueError(f"a row has two images, got {len(images)}")
    chosen, rejected = (_text(row[name]) for name in ("chosen", "rejected"))
    prompt = row["prompt"] if isinstance(row["prompt"], str) else conversation(row["prompt"])[0]
    spans = [row.get(f"{name}_response_spans") for name in ("chosen", "rejected")]
    return rows_of(
        [
            (images[:1], prompt, chosen, rejected, _known(*spans)),
            (images[1:], prompt, rejected, chosen, _known(*reversed(spans))),
        ],
        row.get("id"),
    )


def _known(chosen: Any, rejected: Any) -> Row:
    return {"dataset": "IC-VCO", "chosen_response_spans": chosen, "rejected_response_spans": rejected}


def _text(value: Any) -> str:
    return conversation(value)[0][-1]["content"] if isinstance(value, list) else text_of(value)
