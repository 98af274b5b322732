"""Rows to the text and the token ids that the model reads.

Prompt and answer are rendered by the chat template and tokenized one after the other, as TRL's collator does in
training. Generation uses the same functions: "ASSISTANT: " + "There" and "ASSISTANT: There" are different
tokens for many tokenizers, and a model that is trained on one and asked the other writes nonsense.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image
from trl import prepare_multimodal_messages

from ..data.rows import message_text
from .chat_template import MARK, bos_ids, end_of_turn, kept_placeholders, render_examples
from .control_tokens import as_text, check_text, eos_tokens, strip_eos, structure_tokens
from .image_tokens import UNFIT, unfit_sizes


@dataclass(frozen=True)
class RenderedRow:
    """
    Text of a row as the chat template renders it: `prompt + lead + answer + tail` is the whole conversation.

    Attributes:
        prompt (`str`): prompt, up to where the model begins to write, with one image placeholder per image.
        lead (`str`): what the template puts between the prompt and the answer, often a single space.
        answer (`str`): the answer of the row; empty if the row has none.
        tail (`str`): what follows the answer: the EOS token, perhaps written by the template with more.
    """

    prompt: str
    lead: str = ""
    answer: str = ""
    tail: str = ""


def render(row: Mapping[str, Any], processor: Any) -> RenderedRow:
    """
    Render the prompt of a row and, if it has one, its chosen answer.

    Args:
        row (`dict`): row with `images`, `prompt`, and perhaps `chosen` (lists of messages).
        processor ([`~transformers.ProcessorMixin`]): processor with a chat template.

    Returns:
        [`RenderedRow`]

    Raises:
        ValueError: the chat template changes the answer, so that it cannot be found in what the template renders; or
            a text holds a token that stands for an image.
    """
    check_text(row, kept_placeholders(processor), f"row {row['row_id']}" if "row_id" in row else "")
    prompt = prepare_multimodal_messages(row["prompt"], images=row["images"])
    if not row.get("chosen"):
        return RenderedRow(render_examples([{"prompt": prompt}], processor)[0]["prompt"])

    # A mark shows where the answer stands: an answer such as "s" could also be found in an EOS token
    *earlier, last = row["chosen"]
    conversations = [row["chosen"], [*earlier, {**last, "content": MARK}]]
    example, marked = render_examples(
        [{"prompt": prompt, "completion": prepare_multimodal_messages(chosen)} for chosen in conversations], processor
    )
    lead, _, tail = marked["completion"].partition(MARK)
    eos = eos_tokens(processor, end_of_turn(processor))
    text = as_text(strip_eos(message_text(last), eos), structure_tokens(processor))
    for answer in (text, text.rstrip(), text.strip()):  # some templates trim the content
        if example["completion"] == lead + answer + tail:
            return RenderedRow(example["prompt"], lead, answer, tail)
    raise ValueError(
        f"The chat template changes the answer {text!r} into {example['completion']!r}, so it cannot be continued. "
        "Use a chat template that keeps the content of assistant messages."
    )


def generation_prompt(processor: Any) -> str:
    """What the chat template writes between a user's message and the answer, such as "ASSISTANT:" (`str`)."""
    message = {"role": "user", "content": MARK}
    return render({"images": [], "prompt": [message]}, processor).prompt.rpartition(MARK)[2]


def text_ids(processor: Any, text: str) -> list[int]:
    """Token ids (`list[int]`) of a part of a conversation, without any that the text does not spell."""
    return processor.tokenizer(text, add_special_tokens=False)["input_ids"] if text else []


def prompt_ids(processor: Any, text: str, images: Sequence[Image.Image]) -> list[int]:
    """
    Token ids of a rendered prompt, counted from the sizes of its images alone: no pixel is processed.

    Args:
        processor ([`~transformers.ProcessorMixin`]): processor of the model.
        text (`str`): rendered prompt with one placeholder per image.
        images (`list` of `PIL.Image.Image`): images of the row; may be empty.

    Returns:
        `list[int]`: ids of length P, the BOS token included, every placeholder expanded to as many image tokens as
        its image has.

    Raises:
        ValueError: placeholders and images differ in number.
    """
    parts = text.split(processor.image_token)
    if len(parts) - 1 != len(images):
        raise ValueError(
            f"The rendered prompt has {len(parts) - 1} image placeholders ({processor.image_token}) but the row has "
            f"{len(images)} images. Remove the placeholder from the text or add the missing images."
        )
    if not images:
        return bos_ids(processor) + text_ids(processor, text)
    sizes = [(image.height, image.width) for image in images]
    try:
        counts = processor._get_num_multimodal_tokens(image_sizes=sizes)["num_image_tokens"]
    except UNFIT as error:
        raise ValueError(unfit_sizes(sizes, error)) from error
    expanded = "".join(part + processor.image_token * count for part, count in zip(parts, [*counts, 0], strict=True))
    return bos_ids(processor) + text_ids(processor, expanded)
