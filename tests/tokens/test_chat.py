"""The text and the ids of generation beside those that TRL's collator trains on."""

import re
from copy import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.families import family
from support.tiny import TEMPLATE, TEXTS, tiny_image, tiny_processor, tiny_row
from trl import apply_chat_template, prepare_multimodal_messages
from trl.trainer.dpo_trainer import DataCollatorForVisionPreference

from trl_mm.tokens.chat import RenderedRow, prompt_ids, render, text_ids


PROCESSOR = tiny_processor()
TEMPLATES = {
    "space after the role": TEMPLATE,
    "space in the prompt": TEMPLATE.replace("ASSISTANT:{%", "ASSISTANT: {%"),
    "line break and end of turn": TEMPLATE.replace("</s>", "<end_of_turn>\n").replace("': {%", "':\n{%"),
    "trimmed": TEMPLATE.replace("part['text'] }}", "part['text'] | trim }}"),
}
ANSWERS = st.one_of(
    st.lists(st.sampled_from(TEXTS[0].split() + ["s", "</", "end", "\n", "ASSISTANT:"]), min_size=1).map(" ".join),
    st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Co"]), min_size=1),
).filter(str.strip)
SIZES = st.tuples(st.integers(5, 130), st.integers(5, 130))
TURNS = [
    {"role": "system", "content": "Be short."},
    {"role": "user", "content": "Is it late?"},
    {"role": "assistant", "content": "There is a red circle."},
    {"role": "user", "content": "Describe the image."},
]


def with_template(template):
    processor = copy(PROCESSOR)
    processor.chat_template = template
    return processor


def of_trl(row, processor):
    """Prompt and completion as TRL renders them."""
    example = {
        "prompt": prepare_multimodal_messages(row["prompt"], images=row["images"]),
        "completion": prepare_multimodal_messages(row["chosen"]),
    }
    rendered = apply_chat_template(example, processor)
    return rendered["prompt"], rendered["completion"]


@pytest.mark.parametrize("prompt", [TURNS[-1:], TURNS], ids=["one turn", "several turns"])
@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
@settings(max_examples=25)
@given(answer=ANSWERS, num_images=st.integers(0, 2))
def test_the_parts_are_what_trl_renders(template, prompt, answer, num_images):
    processor = with_template(template)
    row = {**tiny_row(answer=answer), "images": [tiny_image()] * num_images, "prompt": prompt}
    rendered = render(row, processor)
    assert (rendered.prompt, rendered.lead + rendered.answer + rendered.tail) == of_trl(row, processor)
    assert rendered.answer in (answer, answer.strip())
    assert not rendered.lead.strip() and rendered.tail in ("</s>", "<end_of_turn>\n")
    assert rendered.prompt.count("<image>") == num_images


@pytest.mark.parametrize(("name", "lead"), [("space after the role", " "), ("space in the prompt", "")])
def test_the_space_in_front_of_an_answer_is_kept_apart(name, lead):
    assert render(tiny_row(answer=" Yes."), with_template(TEMPLATES[name])) == RenderedRow(
        render(tiny_row(), with_template(TEMPLATES[name])).prompt, lead, " Yes.", "</s>"
    )
    assert render(tiny_row(answer=" Yes. "), with_template(TEMPLATES["trimmed"])).answer == "Yes."


@pytest.mark.parametrize("answer", ["s", "turn", "end_of"])
def test_an_answer_is_not_mistaken_for_a_part_of_the_end_token(answer):
    for name, tail in (("space after the role", "</s>"), ("line break and end of turn", "<end_of_turn>\n")):
        rendered = render(tiny_row(answer=answer), with_template(TEMPLATES[name]))
        assert (rendered.lead.strip(), rendered.answer, rendered.tail) == ("", answer, tail)


def test_a_row_without_an_answer_is_a_prompt_only():
    row = tiny_row()
    del row["chosen"]
    assert render(row, PROCESSOR) == RenderedRow(render(tiny_row(), PROCESSOR).prompt)


@pytest.mark.parametrize("change", ["upper", "replace('red', 'blue')", "truncate(12)"])
def test_a_template_that_changes_the_answer_is_refused(change):
    text = f"{{{{ part['text'].{change} }}}}" if "replace" in change else f"{{{{ part['text'] | {change} }}}}"
    template = TEMPLATE.replace("{{ part['text'] }}", text)
    assert template != TEMPLATE
    with pytest.raises(ValueError, match="changes the answer 'There is a red circle.*Use a chat template that keeps"):
        render(tiny_row(), with_template(template))


def test_an_answer_that_spells_the_image_token_is_refused():
    for processor, token in ((PROCESSOR, "<image>"), (family("qwen2_vl")[1], "<|image_pad|>")):
        with pytest.raises(ValueError, match=f"'It is .* in `chosen` holds {re.escape(token)}, .*Remove it"):
            render({**tiny_row(7), "chosen": tiny_row(answer=f"It is {token}.")["chosen"]}, processor)


@given(st.lists(SIZES, max_size=2), st.sampled_from(["", " Is it late?", "\nThe sky is blue!"]))
def test_prompt_ids_are_those_of_the_processor(sizes, text):
    images = [tiny_image(seed, size) for seed, size in enumerate(sizes)]
    row = {**tiny_row(), "images": images, "prompt": [{"role": "user", "content": "Describe the image." + text}]}
    rendered = render(row, PROCESSOR)
    inputs = PROCESSOR(text=[rendered.prompt], images=[images] if images else None, add_special_tokens=False)
    ids = prompt_ids(PROCESSOR, rendered.prompt, images)
    assert ids == list(inputs["input_ids"][0])
    assert (ids.count(PROCESSOR.image_token_id) > 0) == bool(images)


@pytest.mark.parametrize(("placeholders", "num_images"), [(0, 1), (1, 0), (1, 2), (2, 1)])
def test_placeholders_and_images_must_agree(placeholders, num_images):
    with pytest.raises(ValueError, match=f"{placeholders} image placeholders.*{num_images} images.*Remove"):
        prompt_ids(PROCESSOR, "<image>" * placeholders + "Hello", [tiny_image()] * num_images)


@pytest.mark.parametrize("name", TEMPLATES)
@settings(max_examples=15)
@given(answers=st.tuples(ANSWERS, ANSWERS), size=SIZES)
def test_prompt_and_answer_ids_are_those_that_trl_trains_on(name, answers, size):
    processor = with_template(TEMPLATES[name])
    row = tiny_row(answer=answers[0], size=size)
    batch = DataCollatorForVisionPreference(processor)([{**row, "rejected": tiny_row(answer=answers[1])["chosen"]}])
    for index, answer in enumerate(answers):
        rendered = render({**row, "chosen": tiny_row(answer=answer)["chosen"]}, processor)
        prompt = prompt_ids(processor, rendered.prompt, row["images"])
        completion = text_ids(processor, rendered.lead + rendered.answer + rendered.tail)
        real = batch["attention_mask"][index].bool()
        assert batch["input_ids"][index][real].tolist() == prompt + completion
        trained = batch["completion_mask"][index][real]
        assert torch.equal(trained, torch.tensor([0] * len(prompt) + [1] * len(completion)))


def test_no_text_has_no_ids():
    assert text_ids(PROCESSOR, "") == []
    assert PROCESSOR.tokenizer.decode(text_ids(PROCESSOR, " red circle")) == " red circle"
