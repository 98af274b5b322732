"""Tokens that structure a conversation or stand for an image, typed by somebody in a text.

A tokenizer reads them as what they spell: `</s>` in the middle of an answer ends it, `<|image_pad|>` in a question is
an image that is not there. The first kind is read as text, by a space behind its first character; the second is
refused.
"""

import logging
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from datasets import Dataset
from trl import apply_chat_template

from ..data.rows import IMAGE_MARKER, message_text


logger = logging.getLogger(__name__)

_PICTURE = re.compile(r"(.*_)?(image|img|video|vision|boi|eoi)(_.*)?_(token|tag)")
_COLUMNS = ("prompt", "chosen", "rejected", "second_rejected")


def image_placeholders(processor: Any) -> set[str]:
    """Texts (`set[str]`) that the model reads as an image or a video, or as what frames one."""
    named = [*processor.tokenizer.special_tokens_map.items(), *vars(processor).items()]
    found = {token for name, token in named if _PICTURE.fullmatch(name) and isinstance(token, str)}
    bare, shown = (_template_text(processor, parts) for parts in ([], [{"type": "image"}]))
    return {*found, processor.image_token, *(_special(processor, shown) - _special(processor, bare))}


def structure_tokens(processor: Any) -> set[str]:
    """BOS, EOS, padding and other special tokens, and those that the template writes around messages (`set[str]`)."""
    source = processor.chat_template
    source = "".join(source.values()) if isinstance(source, dict) else source
    named = {token for token in processor.tokenizer.special_tokens_map.values() if isinstance(token, str)}
    found = named | _special(processor, source + _template_text(processor, []))
    return found - image_placeholders(processor)


def eos_tokens(processor: Any, tail: str = "") -> set[str]:
    """Tokens (`set[str]`) that an answer may end with: the EOS token, and what the template writes, if it is one."""
    return {
        token for token in (processor.tokenizer.eos_token, tail.strip()) if token and _is_special(processor, token)
    }


def as_text(text: str, tokens: Collection[str]) -> str:
    """The text with a space behind the first character of every one of the `tokens`, which it then spells no more."""
    if not any(token in text for token in tokens):
        return text
    pattern = "|".join(re.escape(token) for token in sorted(tokens, key=len, reverse=True) if len(token) > 1)
    return re.sub(pattern, lambda match: f"{match[0][0]} {match[0][1:]}", text)


def strip_eos(text: str, eos: Collection[str]) -> str:
    """An answer without EOS tokens that somebody put at its end by hand: they are added where they belong."""
    stripped = text.rstrip()
    if not stripped.endswith(tuple(eos)):
        return text
    while end := next((end for end in eos if stripped.endswith(end)), None):
        stripped = stripped.removesuffix(end).rstrip()
    return stripped


def check_text(row: Mapping[str, Any], placeholders: Collection[str], where: str = "") -> None:
    """
    Refuse a row whose texts spell an image: the model would look for one that is not there.

    Args:
        row (`dict`): row in the row format, `images` are not looked at; it may lack columns.
        placeholders (`set[str]`): those of the model, see [`image_placeholders`].
        where (`str`, *optional*, defaults to `""`): the row, for the message.

    Raises:
        ValueError: a text holds one of them.
    """
    for name in (name for name in _COLUMNS if row.get(name)):
        text = "".join(map(message_text, row[name]))
        token = next((token for token in sorted(placeholders, key=len, reverse=True) if token in text), None)
        if token is not None:
            what = "prompt" if name == "prompt" else "answer"
            cure = f" Images stand in `images`; {IMAGE_MARKER} says where in the prompt." if what == "prompt" else ""
            start = f"{where}: the" if where else "The"
            raise ValueError(
                f"{start} {what} {text!r:.200} in `{name}` holds {token}, which this model reads as an image. Remove "
                f"it from the text.{cure}"
            )


def check_texts(rows: Dataset | Iterable[Mapping[str, Any]], processor: Any, name: str = "The dataset") -> None:
    """
    Refuse rows whose texts spell an image, and warn once of those with other control tokens, which are read as text.

    Args:
        rows (`datasets.Dataset` or `list[dict]`): rows in the row format; they may lack columns.
        processor ([`~transformers.ProcessorMixin`]): processor of the model.
        name (`str`, *optional*, defaults to `"The dataset"`): name of the rows, for the warning.

    Raises:
        ValueError: a text spells an image.
    """
    placeholders, structure = image_placeholders(processor), structure_tokens(processor)
    eos = eos_tokens(processor)
    found: set[str] = set()
    count = 0
    if isinstance(rows, Dataset):
        rows = rows.select_columns([name for name in (*_COLUMNS, "row_id") if name in rows.column_names])
        rows = rows.with_format(None)
    for number, row in enumerate(rows):
        check_text(row, placeholders, f"row {row.get('row_id', number)}")
        texts = [
            strip_eos(message_text(message), eos) if message["role"] == "assistant" else message_text(message)
            for column in _COLUMNS
            for message in row.get(column) or []
        ]
        held = {token for token in structure for text in texts if token in text}
        found |= held
        count += bool(held)
    if count:
        token = min(found)
        logger.warning(
            "%s has %d rows with control tokens in their texts (%s). They are read as text, with a space in them: %r.",
            name, count, ", ".join(sorted(found)), as_text(token, {token}),
        )  # fmt: skip


def _template_text(processor, parts):
    """What the chat template makes of a question with these further `parts` and an answer (`str`)."""
    question = [{"role": "user", "content": [*parts, {"type": "text", "text": "a"}]}]
    answer = [{"role": "assistant", "content": [{"type": "text", "text": "b"}]}]
    example = apply_chat_template({"prompt": question, "completion": answer}, processor)
    return example["prompt"] + example["completion"]


def _special(processor, text):
    added = processor.tokenizer.added_tokens_decoder.values()
    return {
        token.content for token in added if token.special and not token.content.isspace() and token.content in text
    }


def _is_special(processor, text):
    tokenizer = processor.tokenizer
    return text in tokenizer.all_special_tokens or any(
        token.special and token.content == text for token in tokenizer.added_tokens_decoder.values()
    )
