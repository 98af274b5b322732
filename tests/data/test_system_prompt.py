"""A system prompt as part of the chat template, beside rows that say it themselves."""

from copy import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.families import FAMILIES, family
from support.templates import llama_like
from support.tiny import TEMPLATE, tiny_image, tiny_processor, tiny_row
from transformers import AutoProcessor

from trl_mm.data.loading import prepare_preferences
from trl_mm.tokens.chat import render
from trl_mm.tokens.chat_template import check_chat_template, prompt_settings, system_prompt_of, with_system_prompt
from trl_mm.tokens.lengths import count_tokens


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1).filter(
    lambda text: text.strip() and not any(token in text for token in ("</s>", "<pad>", "<image>"))
)


def saying(text, row):
    return {**row, "prompt": [{"role": "system", "content": text}, *row["prompt"]]}


@given(TEXT)
def test_it_is_read_as_if_the_row_said_it(text):
    processor = with_system_prompt(tiny_processor(), text)
    assert render(tiny_row(), processor) == render(saying(text, tiny_row()), tiny_processor())
    assert system_prompt_of(processor) == text and prompt_settings(processor) == {"system_prompt": text}
    assert render(saying("Be short.", tiny_row()), processor) == render(
        saying("Be short.", tiny_row()), tiny_processor()
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_takes_one(name):
    processor = family(name)[1]
    made = with_system_prompt(processor, "Be short.")
    assert render(tiny_row(), made) == render(saying("Be short.", tiny_row()), processor)


@pytest.mark.parametrize("nothing", [None, ""])
def test_without_one_nothing_changes(nothing):
    processor = tiny_processor()
    assert with_system_prompt(processor, nothing) is processor
    assert system_prompt_of(processor) is None and prompt_settings(processor) == {}


def test_the_processor_that_was_given_stays_as_it_is():
    processor = tiny_processor()
    with_system_prompt(processor, "Be short.")
    assert processor.chat_template == TEMPLATE


@pytest.mark.parametrize("template", [TEMPLATE, "\n " + TEMPLATE, TEMPLATE + "\n"])
def test_who_loads_what_was_saved_reads_the_same(tmp_path, template):
    processor = copy(tiny_processor())
    processor.chat_template = template
    made = with_system_prompt(processor, 'Say "yes"\n{{ or }} %} nö.')
    made.save_pretrained(tmp_path)
    loaded = AutoProcessor.from_pretrained(tmp_path)
    assert system_prompt_of(loaded) == 'Say "yes"\n{{ or }} %} nö.'
    assert render(tiny_row(), loaded).prompt == render(tiny_row(), made).prompt
    other = with_system_prompt(loaded, "Be long.")
    assert system_prompt_of(other) == "Be long." and "yes" not in render(tiny_row(), other).prompt


def test_its_tokens_are_counted():
    row = {**tiny_row(), "rejected": tiny_row()["chosen"], "images": [tiny_image()]}
    rows = [prepare_preferences([row]), prepare_preferences([saying("Be short.", row)])]
    made = with_system_prompt(tiny_processor(), "Be short.")
    assert count_tokens(rows[0], made).prompt == count_tokens(rows[1], tiny_processor()).prompt
    assert count_tokens(rows[0], made).prompt > count_tokens(rows[0], tiny_processor()).prompt


@pytest.mark.parametrize(
    ("processor", "message"),
    [
        (llama_like("mistral"), "takes no system message .Only user and assistant roles are supported.*Leave it out"),
        (copy(tiny_processor()), "takes no system message .it leaves it out.*Leave it out"),
    ],
    ids=["raises", "drops"],
)
def test_a_template_that_takes_none_is_refused(processor, message):
    if processor.chat_template == TEMPLATE:
        processor.chat_template = TEMPLATE.replace("messages %}", "messages if message['role'] != 'system' %}", 1)
    with pytest.raises(ValueError, match=message):
        with_system_prompt(processor, "Be short.")


def test_a_control_token_in_it_is_refused():
    with pytest.raises(ValueError, match="`system_prompt` holds </s>, .*Remove it"):
        with_system_prompt(tiny_processor(), "Be short.</s>")


@pytest.mark.parametrize("template", [None, "", {"tools": "x"}])
def test_a_processor_without_a_chat_template_is_refused(template):
    processor = copy(tiny_processor())
    processor.chat_template = template
    with pytest.raises(ValueError, match="`some/model` has no chat template.*chat_template.jinja"):
        check_chat_template(processor, "some/model")
