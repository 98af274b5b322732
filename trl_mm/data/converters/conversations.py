"""Pairs that are written as conversations, with turns of `from` and `value` or of `role` and `content`."""

from typing import Any

from .left_out import leave_out_video
from .pairs import pair, sft_row, shared_prompt, split_answer
from .values import conversation, file_name, images_of, parsed, rating_of, records, text_of


def sharegpt(row: dict[str, Any]) -> dict[str, Any]:
    """
    ```python
    {"conversations": [{"from": "human", "value": "<image>What are the key features?"}],  # or `messages`
     "chosen": {"from": "gpt", "value": "A stone tower."},
     "rejected": {"from": "gpt", "value": "A wooden tower."},
     "images": ["tower.jpg"],  # or `image`
     "system": "Be brief."}    # rarely
    ```

    As LLaMA-Factory has it, and with it `llamafactory/RLHF-V` and `Zhihui/VLFeedback`. Other columns stay.
    """
    name = "conversations" if row.get("conversations") is not None else "messages"
    prompt, inline = conversation(row[name])
    chosen, rejected = (_only_answer(row[answer]) for answer in ("chosen", "rejected"))
    if prompt and prompt[-1]["role"] == "assistant":
        if prompt[-1]["content"].strip() not in (chosen.strip(), rejected.strip()):
            raise ValueError(f"`{name}` ends with an answer that is neither `chosen` nor `rejected`")
        prompt = prompt[:-1]
    return pair(
        images_of(row, "images", "image") or inline,
        with_system(prompt, row.get("system")),
        chosen,
        rejected,
        row_id=row.get("id"),
        **rest_of(row, name, "chosen", "rejected", "images", "image", "system", "id"),
    )


def povid(row: dict[str, Any]) -> dict[str, Any]:
    """
    ```python
    {"id": "000000033471",
     "image": "./data/coco/COCO_train2014_000000033471.jpg",
     "conversations": [{"from": "human", "value": "<image>\\nWhat is on the bus?"},
                       {"from": "gpt", "value": "An advertisement."}],
     "rejected_conversations": [{"from": "human", "value": "<image>\\nWhat is on the bus?"},
                                {"from": "gpt", "value": "Two dogs."}]}
    ```

    POVID, and CSR, which is written alike. Images are named by their file alone: they are not part of the dataset, and
    everyone keeps them elsewhere.
    """
    (chosen, inline), (rejected, _) = conversation(row["conversations"]), conversation(row["rejected_conversations"])
    images = [file_name(image) for image in images_of(row) or inline]
    return pair(images, *shared_prompt(chosen, rejected), row_id=row.get("id"))


def llava_rlhf(row: dict[str, Any]) -> dict[str, Any]:
    """
    ```python
    {"id": "wpKlmZ", "image": "000000316520.jpg",
     "conversations": [{"from": "human", "value": "<image>\\nWhat is the man doing?"},
                       {"from": "gpt", "value": "He is surfing."}],   # the last answer is replaced
     "output_1": {"from": "llava", "value": "He rides a wave."},
     "output_2": {"from": "llava", "value": "He swims."},
     "preference": 1, "hallucination": False}
    ```

    LLaVA-Human-Preference-10K. Some conversations are one list deeper. `hallucination` stays.
    """
    prompt, inline = conversation(row["conversations"])
    prompt = prompt[:-1] if prompt and prompt[-1]["role"] == "assistant" else prompt
    preference = rating_of(row["preference"])
    if preference not in (1, 2):
        raise ValueError(f"`preference` must be 1 or 2, got {row['preference']!r}")
    outputs = [row["output_1"], row["output_2"]]
    chosen, rejected = outputs if preference == 1 else outputs[::-1]
    known = {"dataset": "LLaVA-Human-Preference-10K", "hallucination": row.get("hallucination")}
    return pair(images_of(row) or inline, prompt, chosen, rejected, row_id=row.get("id"), **known)


def llama_factory_v1(row: dict[str, Any]) -> dict[str, Any]:
    """
    ```python
    {"chosen_messages": [{"role": "user", "loss_weight": 0.0, "content": [{"type": "image_url", "value": "a.jpg"},
                                                                          {"type": "text", "value": "What is it?"}]},
                         {"role": "assistant", "loss_weight": 1.0, "content": [{"type": "text", "value": "A dog."}]}],
     "rejected_messages": [...]}  # the same up to the last answer
    {"messages": [...]}           # one such conversation: an SFT row
    ```
    """
    if row.get("chosen_messages") is None:
        messages, inline = conversation(row["messages"])
        known = rest_of(row, "messages", "images", "image", "id")
        images = inline or images_of(row, "images", "image")
        return sft_row(images, *split_answer(messages), row_id=row.get("id"), **known)
    (chosen, inline), (rejected, _) = conversation(row["chosen_messages"]), conversation(row["rejected_messages"])
    rest = rest_of(row, "chosen_messages", "rejected_messages", "images", "image", "id")
    images = inline or images_of(row, "images", "image")
    return pair(images, *shared_prompt(chosen, rejected), row_id=row.get("id"), **rest)


def vision_feedback_mix(row: dict[str, Any]) -> dict[str, Any]:
    """
    ```python
    {"id": 7, "origin_pre_dataset": "RLHF-V", "image": {"bytes": b"...", "path": None}, "image_path": "a.jpg",
     "conversations": '[{"from": "human", "value": "<image>What is it?"},'
                      ' {"from": "gpt", "preference_values": ["A dog.", "Two dogs."]}]'}  # preferred, dispreferred
    ```

    vision-feedback-mix-binarized. Turns may also be written as `{"human": ...}` and `{"gpt": ...}`.
    """
    turns = [_long_turn(turn) for turn in records(parsed(row["conversations"]))]
    if not turns or len(turns[-1].get("preference_values") or []) != 2:
        raise ValueError("the last turn of `conversations` has no `preference_values` of two answers")
    prompt, inline = conversation(turns[:-1])
    return pair(
        images_of(row, "image", "images", "image_path") or inline,
        prompt,
        *turns[-1]["preference_values"],
        row_id=row.get("id"),
        dataset="vision-feedback-mix-binarized",
        source=row.get("origin_pre_dataset"),
    )


def with_system(prompt: list[dict[str, str]], system: Any) -> list[dict[str, str]]:
    """A prompt with a system message in front, if there is a text for it."""
    return [{"role": "system", "content": text_of(system)}, *prompt] if text_of(system).strip() else prompt


def rest_of(row: dict[str, Any], *read: str) -> dict[str, Any]:
    """
    Columns of a row that a converter has not read, without those that would take the place of what it makes of them.

    Raises:
        LeftOut: the row is about a video.
    """
    leave_out_video(row)
    ours = {"images", "image", "prompt", "chosen", "rejected", "row_id", "messages", "completion", "video", "videos"}
    return {name: value for name, value in row.items() if name not in ours.union(read)}


def _long_turn(turn: dict[str, Any]) -> dict[str, Any]:
    """`{"human": "What?"}` as a turn of `from` and `value`."""
    short = next((name for name in ("human", "gpt", "system") if turn.get(name) is not None), None)
    return turn if short is None else {"from": short, "value": turn[short], **turn}


def _only_answer(value: Any) -> str:
    """Text of an answer that is one, a turn, or a list of one turn."""
    if isinstance(value, list):
        (value,) = value
    return conversation([value])[0][0]["content"] if isinstance(value, dict) and "role" in value else text_of(value)
