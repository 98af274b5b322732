"""LLaVA-Instruct-150K and what is written like it, such as ShareGPT's layout: SFT rows as conversations."""

from typing import Any


ROLES = {"system": "system", "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}


def llava_instruct(row: dict[str, Any]) -> dict[str, Any]:
    """
    ```python
    {"id": "000000033471",
     "image": "000000033471.jpg",  # or `images`, a list; or none, for a text-only conversation
     "conversations": [{"from": "human", "value": "<image>\\nWhat are the colors of the bus?"},
                       {"from": "gpt", "value": "The bus is white and red."},
                       {"from": "human", "value": "What is on its back?"},
                       {"from": "gpt", "value": "An advertisement."}]}
    ```

    The last answer becomes `chosen`; the turns before it are the `prompt`.
    """
    messages = [{"role": ROLES[turn["from"]], "content": turn["value"]} for turn in row["conversations"]]
    if not messages or messages[-1]["role"] != "assistant":
        raise ValueError("the conversation does not end with a turn of the assistant")
    image = row.get("images") if row.get("image") is None else row["image"]
    images = image if isinstance(image, list) else [] if image is None else [image]
    return {"images": images, "prompt": messages[:-1], "chosen": messages[-1:], "row_id": row.get("id")}
