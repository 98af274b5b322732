"""LLaVA-Instruct-150K and what is written like it, such as ShareGPT's layout: SFT rows as conversations."""

from typing import Any

from .pairs import sft_row, split_answer
from .values import conversation, images_of


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
    messages, inline = conversation(row["conversations"])
    return sft_row(images_of(row) or inline, *split_answer(messages), row_id=row.get("id"))
