"""
Layouts of rows that mean one thing only, brought into the columns of the row format.

```python
{"messages": [user, assistant], ...}                     # TRL's SFT rows
{"prompt": ..., "completion": ..., ...}                  # the same, with a prompt of its own
{"chosen": [user, assistant], "rejected": [user, assistant], ...}  # TRL's implicit prompts
{"prompt": "What?", "chosen": [user, assistant], ...}    # the prompt is said twice
{"file_name": "a.png", ...}                              # metadata of an image folder of `datasets`
```
"""

from typing import Any


UNPAIRED = (
    "Rows with an answer and a `label` that says whether it is good are unpaired: a pair needs two answers to one "
    "prompt. Pair good and bad answers by prompt, or keep the good ones as SFT rows for `trl-mm bdhs`: leave out the "
    "others, and that column (with messages, `--converter ms_swift` does so)."
)

_ANSWERS = ("chosen", "rejected")
_FILE_NAMES = ("file_name", "image_file_name", "file_names", "image_file_names", "images_file_names")
# Keys under which a part of a message holds its image, for transformers and for endpoints
_IMAGE_KEYS = ("image", "image_url", "url", "path", "base64")


def with_known_columns(row: dict[str, Any]) -> dict[str, Any]:
    """
    Bring a row of another layout into columns of the row format. What can be read in two ways stays as it is.

    Args:
        row (`dict[str, Any]`):
            Row whose messages, if any, are without keys that are `None`. It is not modified.

    Returns:
        `dict[str, Any]`:
            New row; values are those of the old one.
    """
    row = dict(row)
    if "images" not in row and "image" not in row:
        for name in _FILE_NAMES:
            if isinstance(row.get(name), str | list):
                row["images"] = row.pop(name)
                break
    if "chosen" not in row and _are_messages(row.get("messages")) and "prompt" not in row and not is_unpaired(row):
        _split_messages(row)
    if "chosen" not in row and "rejected" not in row and "label" not in row and "prompt" in row:
        if isinstance(row.get("completion"), str | list):
            row["chosen"] = row.pop("completion")
    if all(_are_messages(row[name]) for name in _ANSWERS if name in row) and "chosen" in row:
        _split_answers(row)
    return row


def layout_hint(row: dict[str, Any]) -> str:
    """What to do with rows of a layout that has to be converted, for the message of a missing column (`str`)."""
    if "conversations" in row:
        return " `conversations` can be written in several ways: pass a function of your own as `converter`."
    if "prompt" not in row and all(_are_messages(row.get(name)) and len(row[name]) == 1 for name in _ANSWERS):
        return " If the answers hold the prompt as well, as text, split them: `dataset.map(trl.extract_prompt)`."
    if is_unpaired(row):
        return f" {UNPAIRED}"
    if "prompt" not in row and _are_messages(row.get("chosen")):
        return " `chosen` and `rejected` do not begin with the same messages, so they hold no prompt."
    return ""


def is_unpaired(row: dict[str, Any]) -> bool:
    """Whether a row has one answer and says whether it is good, as rows for KTO do."""
    filled = {name for name, value in row.items() if value is not None}
    has_label = any(isinstance(row.get(name), bool) for name in ("label", "kto_tag"))
    is_pair = bool(filled & {"rejected", "rejected_response", "rejected_messages"})
    return has_label and not is_pair and bool(filled & {"completion", "messages", "response"})


def with_image_parts(messages: Any) -> Any:
    """Messages in which every part with an image is `{"type": "image", "image": ...}`, however its key is named."""
    if not _are_messages(messages):
        return messages
    return [
        {**message, "content": [_image_part(part) for part in message["content"]]}
        if isinstance(message.get("content"), list)
        else message
        for message in messages
    ]


def _image_part(part: Any) -> Any:
    if not isinstance(part, dict) or part.get("type") not in ("image", "image_url", "input_image"):
        return part
    key = next((key for key in _IMAGE_KEYS if key in part), None)
    if key in (None, "image"):
        return part
    rest = {name: value for name, value in part.items() if name != key}
    return {**rest, "type": "image", "image": {"base64": part[key]} if key == "base64" else part[key]}


def _are_messages(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) and "role" in item for item in value)


def _split_messages(row: dict[str, Any]) -> None:
    messages = row.pop("messages")
    if messages[-1]["role"] == "assistant":
        row["prompt"], row["chosen"] = messages[:-1], messages[-1:]
        if isinstance(row.get("rejected_response"), str):  # as ms-swift writes pairs
            row["rejected"] = row.pop("rejected_response")
    else:
        row["prompt"] = messages


def _split_answers(row: dict[str, Any]) -> None:
    """Takes the prompt out of answers that are whole conversations."""
    answers = [row[name] for name in _ANSWERS if name in row]
    if "prompt" in row:
        prompt = row["prompt"]
        prompt = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        length = len(prompt) if _are_messages(prompt) else 0
        if not length or any(answer[:length] != prompt or len(answer) == length for answer in answers):
            return
    else:
        shortest = min(map(len, answers))
        length = next((n for n in range(shortest) if any(answer[n] != answers[0][n] for answer in answers)), shortest)
        length = min(length, shortest - 1)
        begins = all(answer[length]["role"] == "assistant" for answer in answers)
        if not begins or not any(message["role"] == "user" for message in answers[0][:length]):
            return
        row["prompt"] = answers[0][:length]
    for name in _ANSWERS:
        if name in row:
            row[name] = row[name][length:]
