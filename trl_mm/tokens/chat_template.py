"""What a chat template renders, and what it leaves out: system prompt, BOS and EOS tokens.

The templates of LLaVA-1.5 and of LLaVA-1.6 on Vicuna write neither BOS nor EOS token, that of LLaVA-1.6 on Mistral
no BOS token, though the models were trained with both, and leave the system prompt to the caller. transformers adds
the BOS token when it tokenizes what a template renders. TRL 1.16 adds neither: it trains on prompts that begin as
none does afterwards, and on answers that never end.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from jinja2 import TemplateError
from trl import apply_chat_template

from .control_tokens import as_text, eos_tokens, image_placeholders, strip_eos, structure_tokens


RENDERING = 3  # version of what `render_examples` makes of messages; kept values of another one do not fit
MARK = "\ue000"  # a private character: no template writes or changes it
_EOS_MARK = "\U0010fffd"  # another one, behind an answer that is to end there
_MISSPELT_EOS = "<\\s>"  # what the template of LLaVA-1.6 on Mistral writes in place of its EOS token
_QUESTION: list[dict[str, Any]] = [{"role": "user", "content": [{"type": "text", "text": "a"}]}]
_ANSWER: list[dict[str, Any]] = [{"role": "assistant", "content": [{"type": "text", "text": MARK}]}]
# A system prompt as the beginning of a template. A line break behind a block is not rendered
_SYSTEM = (
    "{% if not messages | selectattr('role', 'equalto', 'system') | list %}"
    "{% set messages = [{'role': 'system', 'content': [{'type': 'text', 'text': ",
    "}]}] + messages %}{% endif %}\n",
)


def render_examples(examples: Iterable[Mapping[str, Any]], processor: Any) -> list[dict[str, str]]:
    """
    Text of prompts and answers as TRL renders it, with the EOS token after every answer that the template lets end
    without, and nothing but it at the end. Control tokens in the texts of messages are text. Where a prompt ends with
    an answer that is begun, answers go on with it, where TRL writes another turn.

    Args:
        examples (`list[dict]`): messages of a row as [`~trl.data_utils.apply_chat_template`] takes them.
        processor ([`~transformers.ProcessorMixin`]): processor with a chat template.

    Returns:
        `list[dict[str, str]]`

    Raises:
        ValueError: the chat template changes a begun answer once it goes on.
    """
    tail, end, tokens, ends, _ = _written(processor)
    # Without the space that the template puts after an answer: it separates the answer from a next turn
    ended = re.compile(rf"\s*{_EOS_MARK}\s*(?:{re.escape(tail.strip())})?\s*")
    space = tail[len(tail.rstrip(" ")) :] if not end and tail.strip() else ""
    texts = []
    for example in examples:
        read = {name: [_as_read(message, tokens, ends) for message in example[name]] for name in example}
        if end:
            # An answer at the end of a prompt is continued
            read = {
                name: [
                    _with_mark(message) if name != "prompt" or place < len(messages) - 1 else message
                    for place, message in enumerate(messages)
                ]
                for name, messages in read.items()
            }
        text = _apply(read, processor)
        texts.append(
            {
                name: ended.sub(lambda _: end, part) if end else part if name == "prompt" else part.removesuffix(space)
                for name, part in text.items()
            }
        )
    return texts


def _apply(example: dict[str, Any], processor: Any) -> dict[str, str]:
    """Prompt and answers of an example as text (`dict[str, str]`); the beginning of an answer is in the prompt."""
    *before, begun = example.get("prompt") or [{}]
    answers = {name: messages for name, messages in example.items() if name != "prompt"}
    if begun.get("role") != "assistant" or not answers:
        return apply_chat_template(example, processor)
    prompt = apply_chat_template({"prompt": example["prompt"]}, processor)["prompt"]
    texts = {"prompt": prompt}
    for name, (first, *others) in answers.items():
        whole = {"prompt": before, "completion": [_continued(begun, first), *others]}
        text = "".join(apply_chat_template(whole, processor).values())
        if not text.startswith(prompt):
            raise ValueError(
                f"The chat template changes the beginning of an answer, {prompt[-100:]!r}, where the answer goes on. "
                "Use a chat template that keeps the content of assistant messages, or end prompts with a user message."
            )
        texts[name] = text[len(prompt) :]
    return texts


def _continued(begun: Mapping[str, Any], answer: Mapping[str, Any]) -> dict[str, Any]:
    """The message of an answer that was begun in the prompt, its text in one part."""
    text = "".join(part.get("text") or "" for message in (begun, answer) for part in message.get("content") or [])
    return {**answer, "content": [{"type": "text", "text": text}]}


def messages_as_read(
    messages: Sequence[Mapping[str, Any]], processor: Any, system_prompt: str | None = None
) -> list[Mapping[str, Any]]:
    """Messages for somebody who renders them elsewhere: with the system prompt, and control tokens as text."""
    _, _, tokens, ends, _ = _written(processor)
    system = [{"role": "system", "content": [{"type": "text", "text": system_prompt}]}]
    has_own = not system_prompt or any(message["role"] == "system" for message in messages)
    return [*([] if has_own else system), *(_as_read(message, tokens, ends) for message in messages)]


def end_of_turn(processor: Any) -> str:
    """What the template writes after an answer (`str`): an EOS token, or whatever else ends a turn."""
    example = apply_chat_template({"prompt": _QUESTION, "completion": _ANSWER}, processor)
    return example["completion"].partition(MARK)[2]


def missing_eos(processor: Any) -> str:
    """The EOS token (`str`) if the template writes nothing but white space after an answer, else an empty text."""
    return processor.tokenizer.eos_token or "" if end_of_turn(processor).strip() in ("", _MISSPELT_EOS) else ""


def unknown_eos(processor: Any) -> str:
    """What the template writes after an answer (`str`) if it ends with no EOS token; else an empty text."""
    tail = end_of_turn(processor)
    is_known = missing_eos(processor) or tail.strip() in eos_tokens(processor, tail)
    return "" if is_known or not tail.strip() else tail


def bos_ids(processor: Any) -> list[int]:
    """
    Token ids that stand in front of what the template renders: `[bos_token_id]` if the tokenizer begins texts with it
    and the template does not write it, else `[]`. Prompts then have the ids of `processor.apply_chat_template`.
    """
    bos = [processor.tokenizer.bos_token_id]
    if processor.tokenizer("")["input_ids"] != bos:
        return []
    written = apply_chat_template({"prompt": _QUESTION}, processor)["prompt"].startswith(processor.tokenizer.bos_token)
    return [] if written else bos


def check_chat_template(processor: Any, name: str) -> None:
    """
    Refuse a processor that cannot render messages.

    Args:
        processor ([`~transformers.ProcessorMixin`]): the processor.
        name (`str`): what it belongs to, for the message.

    Raises:
        ValueError: it has no chat template.
    """
    template = getattr(processor, "chat_template", None)
    if not template or (isinstance(template, dict) and "default" not in template):
        raise ValueError(
            f"The processor of `{name}` has no chat template, which says how its messages are written. Put the "
            "model's own into its folder as chat_template.jinja, set `processor.chat_template`, or use a model that "
            "is trained on conversations (mostly named -instruct, -chat or -it)."
        )


def with_system_prompt(processor: Any, system_prompt: str | None) -> Any:
    """
    A processor for which conversations that have no system message begin with one.

    It is a copy whose chat template says so, and which keeps it when it is saved: who loads a model that was trained
    with it reads what was trained on.

    Args:
        processor ([`~transformers.ProcessorMixin`]): processor with a chat template.
        system_prompt (`str`, *optional*): text of the message; without, the processor itself is returned.

    Raises:
        ValueError: the chat template does not take a system message, or the text holds a control token.
    """
    if not system_prompt:
        return processor
    for token in sorted(structure_tokens(processor) | image_placeholders(processor)):
        if token in system_prompt:
            raise ValueError(f"`system_prompt` holds {token}, which the model does not read as text. Remove it.")
    start, end = _SYSTEM
    made, template = copy(processor), processor.chat_template
    beginning = f"{start}{json.dumps(system_prompt, ensure_ascii=False)}{end}"
    made.chat_template = (
        {name: beginning + text for name, text in template.items()}
        if isinstance(template, dict)
        else beginning + template
    )
    try:
        text = apply_chat_template({"prompt": _QUESTION}, made)["prompt"]
        problem = None if system_prompt.strip() in text else "it leaves it out"
    except (TemplateError, TypeError) as error:
        problem = str(error)
    if problem is not None:
        raise ValueError(
            f"The chat template takes no system message ({problem}), so `system_prompt` cannot be set. Leave it out, "
            "as for LLaVA-1.6 on Mistral, which was trained without, or use a chat template that writes it."
        )
    return made


def system_prompt_of(processor: Any) -> str | None:
    """The text (`str`) that [`with_system_prompt`] gave a processor, whether it was saved since or not, or `None`."""
    template = processor.chat_template
    template = template.get("default") if isinstance(template, dict) else template
    start, end = map(re.escape, _SYSTEM)
    # The file of a template may have lost a line break at its end, never here
    found = re.match(rf'{start}("(?:[^"\\]|\\.)*"){end}', template or "")
    return json.loads(found[1]) if found else None


def kept_placeholders(processor: Any) -> set[str]:
    """[`image_placeholders`] of a processor, worked out once, until its template or its tokens change."""
    return _written(processor).image_placeholders


def prompt_settings(processor: Any) -> dict[str, str]:
    """What stands in a manifest of what was sampled: the system prompt, if there is one (`dict[str, str]`)."""
    text = system_prompt_of(processor)
    return {} if text is None else {"system_prompt": text}


class _Written(NamedTuple):
    """What stands around the texts of messages, whatever they are: see the functions of these names."""

    end_of_turn: str
    missing_eos: str
    structure_tokens: set[str]
    eos_tokens: set[str]
    image_placeholders: set[str]


# Processor to what it looked like, and its `_Written`
_KEPT: WeakKeyDictionary[Any, tuple[Any, _Written]] = WeakKeyDictionary()


def _written(processor):
    """[`_Written`] of a processor, computed anew when its template, its names of tokens or its tokens have changed."""
    tokenizer = processor.tokenizer
    named = {name: copy(value) for name, value in vars(processor).items() if isinstance(value, str | dict)}
    added = [(token.content, token.special) for token in tokenizer.added_tokens_decoder.values()]
    state = named, tokenizer, dict(tokenizer.special_tokens_map), added
    if processor not in _KEPT or _KEPT[processor][0] != state:
        tail = end_of_turn(processor)
        made = _Written(
            tail,
            missing_eos(processor),
            structure_tokens(processor),
            eos_tokens(processor, tail),
            image_placeholders(processor),
        )
        _KEPT[processor] = state, made
    return _KEPT[processor][1]


def _as_read(message, tokens, ends):
    """A message whose texts spell no control token; an answer without EOS tokens that were put there by hand."""
    content = message.get("content")
    if not content:
        return message
    content = [{"type": "text", "text": content}] if isinstance(content, str) else content
    last = _last_text(content) if message["role"] == "assistant" else None
    parts = []
    for number, part in enumerate(content):
        if part["type"] == "text" and part.get("text"):
            text = strip_eos(part["text"], ends) if number == last else part["text"]
            part = {**part, "text": as_text(text, tokens)}
        parts.append(part)
    return {**message, "content": parts}


def _with_mark(message):
    if message["role"] != "assistant":
        return message
    content = list(message.get("content") or [])
    last = _last_text(content)
    if last is None:  # tool calls
        return {**message, "content": [*content, {"type": "text", "text": _EOS_MARK}]}
    content[last] = {**content[last], "text": (content[last].get("text") or "") + _EOS_MARK}
    return {**message, "content": content}


def _last_text(content):
    return next((n for n in reversed(range(len(content))) if content[n]["type"] == "text"), None)
