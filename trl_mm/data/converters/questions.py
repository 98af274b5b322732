"""Pairs that are written as a question and two answers, in columns of their own or as JSON in one."""

import base64
import re
from contextlib import suppress
from typing import Any

from .left_out import LeftOut
from .pairs import Row, pair
from .values import images_of, parsed, rating_of, text_of


_SPEAKER = re.compile(r"(?<![A-Za-z])(USER|ASSISTANT):")


def rlhf_v(row: dict[str, Any]) -> dict[str, Any]:
    """
    ```python
    {"image": {"bytes": b"...", "path": "0.jpg"}, "image_path": "coco/0.jpg", "idx": 0,
     "text": '{"question": "What is it?", "chosen": "A dog.", "rejected": "Two dogs."}',  # or the object itself
     "ds_name": "RLHF-V", "origin_dataset": "coco", "origin_split": '{"model": "muffin", "type": "detailed"}'}
    ```

    Earlier versions say `dataset_name` and `origin_split_inner_idx`, and have `img_b64_buffer` and `text_b64`, both in
    base64, in place of `image` and `text`; in the TSV files that are trained on, the text is a list of question,
    chosen and rejected. People corrected the answer of `model` into the chosen one.
    """
    text = row["text"] if row.get("text") is not None else base64.b64decode(row["text_b64"], validate=True)
    text = parsed(text)
    if isinstance(text, list):
        text = dict(zip(("question", "chosen", "rejected"), text[:3], strict=True))
    images = images_of(row)
    if not images:
        path = row.get("image_path")
        content = row.get("img_b64_buffer")
        images = [path if content is None else {"bytes": content, "path": path}]
    return _of_openbmb(row, images, text, "RLHF-V")


def rlaif_v(row: dict[str, Any]) -> dict[str, Any]:
    """
    ```python
    {"image": {"bytes": b"...", "path": "0.jpg"}, "image_path": "coco/0.jpg", "idx": "0",  # a string in some shards
     "question": "What is it?", "chosen": "A dog.", "rejected": "Two dogs.",
     "ds_name": "RLAIF-V", "origin_dataset": "coco", "origin_split": '{"model": "llava15", "type": "detailed"}'}
    ```

    Both answers are from the same model. Its formatted versions (`trl-lib/rlaif-v`) need no converter.
    """
    made = _of_openbmb(row, images_of(row, "image", "images", "image_path"), row, "RLAIF-V")
    return {**made, "chosen_model": made["rejected_model"]}


def spa_vl(row: dict[str, Any]) -> dict[str, Any]:
    """
    ```python
    {"image": {"bytes": b"...", "path": None}, "question": "What is shown?\\n<image>",
     "chosen": "A street.", "rejected": "Look it up.",
     "class1": "Representation & Toxicity Harms", "class2": "...", "class3": "..."}
    ```

    Safety data: either answer may be a refusal, and `rejected` harmful. The classes stay.
    """
    classes = {name: row.get(name) for name in ("class1", "class2", "class3")}
    return _pair(row, row["question"], dataset="SPA-VL", source=classes["class1"], is_safety=True, **classes)


def mmpr(row: dict[str, Any]) -> dict[str, Any]:
    """
    ```python
    {"image": "a.jpg",  # or a list; none for text alone
     "question": "<image>\\nWhich is larger?", "chosen": "... Answer: B", "rejected": "... Answer: A",
     "answer_gt": "B"}
    ```

    A line of MMPR's annotations; [`mmpr_annotations`] finds them. Images without `<image>` stand in front of the
    question.
    """
    return _pair(row, row["question"], dataset="MMPR", answer_gt=_as_text(row.get("answer_gt")))


def omnialign_v(row: dict[str, Any]) -> dict[str, Any]:
    """
    ```python
    {"id": 0, "image": "knowledge/0.jpg", "prompt": "What style is it?", "chosen": "Gothic.", "rejected": "Modern."}
    ```

    A line of OmniAlign-V-DPO. These are columns of the format, so it needs no converter: this one adds its name, and
    leaves out what is no pair.
    """
    return _pair(row, row["prompt"] if "prompt" in row else row["question"], dataset="OmniAlign-V-DPO")


def mdpo(row: dict[str, Any]) -> dict[str, Any]:
    """
    ```python
    {"img_path": "0.jpg", "prompt": "A system prompt. USER: <image>\\nWhat is it? ASSISTANT:",
     "chosen": "A dog.", "rejected": "Two dogs."}
    ```

    Prompts may be rendered for Vicuna. Only their turns are kept: a chat template writes the rest.
    """
    prompt = unrendered(row["prompt"])
    return pair(images_of(row, "img_path", "image"), prompt, row["chosen"], row["rejected"], dataset="mDPO")


def opa_dpo(row: dict[str, Any]) -> dict[str, Any]:
    """
    ```python
    {"queries": "<image>\\nWhat is it?", "image_bytes": "/9j/4AAQ...",  # base64; earlier `query`
     "original_generate_response": "Two dogs.", "AI_pseudo_response": "A dog.",
     "standard_response": "It is a dog.", "AI_json_report": "[...]"}
    ```

    The model's answer is rejected, its correction by GPT-4V chosen.
    """
    prompt = unrendered(row["queries"] if "queries" in row else row["query"])
    content = row["image_bytes"]
    images = [] if content is None else [content if isinstance(content, dict) else {"bytes": content, "path": None}]
    return pair(
        images,
        prompt,
        row["AI_pseudo_response"],
        row["original_generate_response"],
        row_id=row.get("image_id"),
        dataset="OPA-DPO",
    )


def mm_rlhf_pairs(row: dict[str, Any]) -> dict[str, Any]:
    """
    ```python
    {"id": "a1", "prompt": "<image>\\nWhat is it?", "image": "long/0.jpg",  # or `video`
     "chosen": "A dog.", "rejected": "Two dogs.", "is_tie": False, "scores": [4, 2],
     "chosen_reason": "...", "rejected_reason": "..."}
    ```

    A line of MM-RLHF's `dpo_pairs.jsonl`. Videos and ties are left out. `scores` may also be named `chosen` and
    `rejected`.
    """
    images = images_of(row)
    if row.get("video") and not images:
        raise LeftOut("video")
    if str(row.get("is_tie")).strip().lower() in ("true", "1"):
        raise LeftOut("tie")
    scores = row.get("scores")
    scores = [scores.get("chosen"), scores.get("rejected")] if isinstance(scores, dict) else scores
    better, worse = scores if isinstance(scores, list) and len(scores) == 2 else (None, None)
    return pair(
        images,
        row["prompt"],
        row["chosen"],
        row["rejected"],
        row_id=row.get("id"),
        **mm_rlhf_known(images),
        chosen_rating=rating_of(better),
        rejected_rating=rating_of(worse),
        chosen_reason=_as_text(row.get("chosen_reason")),
        rejected_reason=_as_text(row.get("rejected_reason")),
    )


def llava_hound(row: dict[str, Any]) -> dict[str, Any]:
    """
    ```python
    {"id": "v1", "video": "v1/", "prompt": "<video>\\nWhat happens?", "answer": "...",
     "chosen": "A dog runs.", "rejected": "A cat runs.", "chosen_score": 5, "rejected_score": 2}
    ```

    Videos are not supported: each row is left out.
    """
    raise LeftOut("video")


def mm_rlhf_known(images: list[Any]) -> dict[str, Any]:
    """Columns of provenance of MM-RLHF, whose images lie in a folder for each kind of task."""
    folder = images[0].partition("/")[0] if images and isinstance(images[0], str) and "/" in images[0] else None
    return {"dataset": "MM-RLHF", "source": folder, "is_safety": folder == "safety"}


def unrendered(prompt: str) -> str | list[dict[str, str]]:
    """
    The turns of a prompt that was rendered for Vicuna, `... USER: question ASSISTANT:`; any other prompt as it is.

    Args:
        prompt (`str`): prompt, perhaps with a system prompt in front, and several turns.
    """
    _, *said = _SPEAKER.split(text_of(prompt).strip())
    if said[:1] != ["USER"] or said[-2:-1] != ["ASSISTANT"] or said[-1].strip():
        return prompt
    roles = {"USER": "user", "ASSISTANT": "assistant"}
    return [
        {"role": roles[speaker], "content": text.replace("</s>", "").strip()}
        for speaker, text in zip(said[:-2:2], said[1:-2:2], strict=True)
    ]


def _of_openbmb(row: Row, images: list[Any], text: Row, dataset: str) -> Row:
    """A row of the group that publishes RLHF-V and RLAIF-V; `origin_split` is JSON that names the writing model."""
    split = row.get("origin_split")
    try:
        split = parsed(split)
    except ValueError:  # earlier versions have a name there, such as "train", or the same in base64
        with suppress(ValueError):
            split = parsed(base64.b64decode(str(split), validate=True))
    model, kind = (split.get("model"), split.get("type")) if isinstance(split, dict) else (None, split)
    number = row.get("idx", row.get("origin_split_inner_idx"))
    return pair(
        images,
        text["question"],
        text["chosen"],
        text["rejected"],
        row_id=number,
        dataset=_as_text(row.get("ds_name", row.get("dataset_name"))) or dataset,
        source=_as_text(row.get("origin_dataset")),
        task=_as_text(kind),
        rejected_model=_as_text(model),
        image_path=_as_text(row.get("image_path")),
    )


def _pair(row: Row, question: str, **known: Any) -> Row:
    return pair(images_of(row), question, row["chosen"], row["rejected"], row_id=row.get("id"), **known)


def _as_text(value: Any) -> str | None:
    """A column has one type: what some rows write as a number is a text in all."""
    return None if value is None else value if isinstance(value, str) else str(value)
