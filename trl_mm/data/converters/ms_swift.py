"""Rows as ms-swift reads them, pairs and SFT rows: `messages`, or `query` and `response`."""

import re
from typing import Any

from .conversations import rest_of, with_system
from .left_out import LeftOut
from .pairs import Row, pair, rows_of, sft_row, shared_prompt, split_answer
from .values import conversation, images_of, text_of


_IMAGE = re.compile(r"<img>([^<]*)</img>")
_READ = (
    *("messages", "query", "response", "history", "system", "conversation", "images", "image", "id"),
    *("rejected_response", "rejected_messages", "rejected_images", "videos"),
)


def ms_swift(row: dict[str, Any]) -> Row | list[Row]:
    """
    ```python
    {"messages": [{"role": "user", "content": "<image>What is it?"}, {"role": "assistant", "content": "A dog."}],
     "rejected_response": "Two dogs.",   # or a list of them; or `rejected_messages`, a whole conversation
     "images": ["dog.jpg"]}
    {"query": "<img>dog.jpg</img>What is it?", "response": "A dog.", "rejected_response": "Two dogs.",
     "history": [["Who are you?", "A model."]], "system": "Be brief."}
    {"conversation": [{"human": "Who are you?", "assistant": "A model."}], "system": "Be brief."}
    ```

    Without a rejected answer it is an SFT row; an answer that `label` calls bad, as unpaired rows for KTO have it, is
    left out. Several rejected answers make several pairs. Other columns stay. Rows whose two answers are about
    different images are left out: the format has the images of the prompt alone.
    """
    known = rest_of(row, *_READ)
    messages, inline = _messages(row)
    messages, tagged = _without_tags(messages)
    images = images_of(row, "images", "image") or inline or tagged
    if row.get("rejected_images") not in (None, [], images):
        raise LeftOut("other images for the rejected answer")
    worse: Any
    if row.get("rejected_messages") is not None:
        rejected, _ = _without_tags(conversation(row["rejected_messages"])[0])
        prompt, answer, worse = shared_prompt(messages, rejected)
    else:
        prompt, answer = split_answer(messages)
        worse = row.get("rejected_response")
    prompt = prompt if prompt[:1] and prompt[0]["role"] == "system" else with_system(prompt, row.get("system"))
    if worse is None:
        if row.get("label") is False:
            raise LeftOut("unpaired answers that are labelled bad")
        return sft_row(images, prompt, answer, row_id=row.get("id"), **known)
    if isinstance(worse, list):
        return rows_of([(images, prompt, answer, text, known) for text in worse], row.get("id"))
    return pair(images, prompt, answer, worse, row_id=row.get("id"), **known)


def _messages(row: dict[str, Any]) -> tuple[list[dict[str, str]], list[Any]]:
    """Messages of a row in any of the layouts, and the images in them."""
    if row.get("messages") is not None:
        return conversation(row["messages"])
    if row.get("conversation") is not None:
        twos = [(turn["human"], turn["assistant"]) for turn in row["conversation"]]
    else:
        twos = [*(row.get("history") or []), (row["query"], row["response"])]
    said = [(role, text) for question, answer in twos for role, text in (("user", question), ("assistant", answer))]
    return [{"role": role, "content": text_of(text)} for role, text in said], []


def _without_tags(messages: list[dict[str, str]]) -> tuple[list[dict[str, str]], list[str]]:
    """Messages with `<image>` where they name an image as `<img>a.jpg</img>`, and these images."""
    images = [name.strip() for message in messages for name in _IMAGE.findall(message["content"])]
    return [{**message, "content": _IMAGE.sub("<image>", message["content"])} for message in messages], images
