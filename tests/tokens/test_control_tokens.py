"""Control tokens that somebody typed: read as text, or refused if they stand for an image."""

import re

import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from support.families import FAMILIES, family
from support.templates import llama_like
from support.tiny import bare_processor, tiny_processor, tiny_row

from trl_mm.tokens.chat import prompt_ids, render, text_ids
from trl_mm.tokens.collator import PreferenceCollator
from trl_mm.tokens.control_tokens import check_texts, image_placeholders, strip_eos


PROCESSORS = {"own": tiny_processor(), "bare": bare_processor(), **{n: llama_like(n) for n in ("vicuna", "34b")}}
TYPED = ["</s>", "<s>", "<pad>", "<unk>", "<|im_start|>", "<|im_end|>", "<|startoftext|>"]
TEXTS = st.lists(st.sampled_from([*TYPED, "A", " cat.", "<", "s>", "/s>", "|im_end|>", "\n"]), min_size=1).map("".join)


def special_ids(processor, text, answer):
    ids = [*prompt_ids(processor, text, []), *text_ids(processor, answer)]
    return [token for token in ids if token in processor.tokenizer.all_special_ids]


@pytest.mark.parametrize("name", PROCESSORS)
@given(prompt=TEXTS, answer=TEXTS)
@settings(max_examples=40)
def test_no_text_adds_a_control_token(name, prompt, answer):
    processor = PROCESSORS[name]
    plain, typed = (
        render({"images": [], **conversation(question, said)}, processor)
        for question, said in (("A cat?", "A cat."), (f"{prompt}?", f"{answer} A cat."))
    )
    expected = special_ids(processor, plain.prompt, plain.lead + plain.answer + plain.tail)
    assert special_ids(processor, typed.prompt, typed.lead + typed.answer + typed.tail) == expected


def conversation(question, answer, **columns):
    return {
        "prompt": [{"role": "user", "content": question}],
        "chosen": [{"role": "assistant", "content": answer}],
        **columns,
    }


def test_what_is_typed_stays_readable():
    made = render({"images": [], **conversation("What does <s>old</s> mean?", "It is <pad>. A </s> too.")}, PROCESSOR)
    assert "What does < s>old< /s> mean?" in made.prompt and made.answer == "It is < pad>. A < /s> too."


PROCESSOR = llama_like("vicuna")


def test_training_reads_it_as_text_too():
    row = {**conversation("Is </s> late?", "A </s> cat."), "images": [], "rejected": conversation("", "No.")["chosen"]}
    ids = PreferenceCollator(PROCESSOR)([row])["input_ids"][0].tolist()
    assert ids.count(PROCESSOR.tokenizer.eos_token_id) == 1


@pytest.mark.parametrize("name", FAMILIES)
def test_a_placeholder_in_a_prompt_is_refused_with_its_row(name):
    processor = family(name)[1]
    for token in sorted(image_placeholders(processor)):
        rows = [tiny_row(0), {**tiny_row(1), **conversation(f"{token}What is it?", "A cat.")}]
        dataset = Dataset.from_list([{**row, "images": []} for row in rows])
        message = rf"row 1: the prompt .* holds {re.escape(token)}, .*Remove it from the text. Images stand"
        with pytest.raises(ValueError, match=message):
            check_texts(dataset, processor)
        with pytest.raises(ValueError, match=message):
            render({**rows[1], "images": []}, processor)


def test_the_placeholders_of_families():
    assert image_placeholders(tiny_processor()) == {"<image>"}
    assert {"<|vision_start|>", "<|image_pad|>", "<|vision_end|>"} <= image_placeholders(family("qwen2_5_vl")[1])
    assert {"<start_of_image>", "<image_soft_token>"} <= image_placeholders(family("gemma3")[1])
    for name in FAMILIES:
        assert not image_placeholders(family(name)[1]) & {"</s>", "<pad>"}


def test_rows_with_control_tokens_are_counted_once(caplog):
    rows = [conversation("A?", "A."), conversation("<s>A</s>?", "A."), conversation("A?", "A <pad>.")]
    check_texts(rows, PROCESSOR, "The train dataset")
    (record,) = caplog.records
    assert record.getMessage() == (
        "The train dataset has 2 rows with control tokens in their texts (</s>, <pad>, <s>). They are read as text, "
        "with a space in them: '< /s>'."
    )
    caplog.clear()
    check_texts([conversation("A?", "A.</s>"), conversation("A?", "A. </s>\n")], PROCESSOR)
    assert not caplog.records


@pytest.mark.parametrize(
    ("text", "expected"),
    [("A.</s>", "A."), ("A. </s></s> \n", "A."), ("A. ", "A. "), ("A </s> b", "A </s> b"), ("</s>", "")],
)
def test_ends_by_hand(text, expected):
    assert strip_eos(text, {"</s>"}) == expected
