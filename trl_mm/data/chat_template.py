"""What a chat template renders, and the begin and end tokens that it leaves out.

The templates of LLaVA-1.5 and of LLaVA-1.6 on Vicuna write neither token, that of LLaVA-1.6 on Mistral no begin token,
though the models were trained with both. transformers adds the begin token when it tokenizes what a template renders.
TRL 1.16 adds neither: it trains on prompts that begin as none does afterwards, and on answers that never end.
"""

from trl.data_utils import apply_chat_template


MARK = "\ue000"  # a private character: no template writes or changes it
_QUESTION = [{"role": "user", "content": [{"type": "text", "text": "a"}]}]
_ANSWER = [{"role": "assistant", "content": [{"type": "text", "text": MARK}]}]


def rendered(examples, processor):
    """
    Text of prompts and answers as TRL renders it, with the end token after answers that the template lets end without.

    Args:
        examples (`list[dict]`): messages of a row as [`~trl.data_utils.apply_chat_template`] takes them.
        processor ([`~transformers.ProcessorMixin`]): processor with a chat template.

    Returns:
        `list[dict[str, str]]`
    """
    texts = [apply_chat_template(example, processor) for example in examples]
    if end := missing_end(processor):
        for text in texts:
            # Without the space that the template puts after an answer: it separates the answer from a next turn
            text.update({name: part.rstrip() + end for name, part in text.items() if name != "prompt"})
    return texts


def missing_end(processor):
    """The end token (`str`) if the template writes nothing but white space after an answer, else an empty text."""
    example = apply_chat_template({"prompt": _QUESTION, "completion": _ANSWER}, processor)
    tail = example["completion"].partition(MARK)[2]
    return "" if tail.strip() else processor.tokenizer.eos_token or ""


def begin_ids(processor):
    """
    Token ids that stand in front of what the template renders: `[bos_token_id]` if the tokenizer begins texts with it
    and the template does not write it, else `[]`. Prompts then have the ids of `processor.apply_chat_template`.
    """
    begin = [processor.tokenizer.bos_token_id]
    if processor.tokenizer("")["input_ids"] != begin:
        return []
    written = apply_chat_template({"prompt": _QUESTION}, processor)["prompt"].startswith(processor.tokenizer.bos_token)
    return [] if written else begin
