"""BOS and EOS tokens that a chat template leaves out, beside plain transformers and a template that writes them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.families import FAMILIES, family
from support.templates import llama_like
from support.tiny import (
    BARE_TEMPLATE,
    TEMPLATE,
    TEXTS,
    WHOLE_TEMPLATE,
    bare_processor,
    tiny_image,
    tiny_processor,
    tiny_row,
)
from tokenizers import AddedToken
from trl import prepare_multimodal_messages
from trl.trainer.dpo_trainer import DataCollatorForVisionPreference

from trl_mm.tokens.chat import prompt_ids, render
from trl_mm.tokens.chat_template import bos_ids, render_examples
from trl_mm.tokens.collator import PreferenceCollator


BARE = bare_processor()
SIZES = st.tuples(st.integers(5, 130), st.integers(5, 130))
WORDS = st.lists(st.sampled_from(" ".join(TEXTS).split()), min_size=1, max_size=8).map(" ".join)


def pair(seed, chosen, rejected, sizes):
    images = [tiny_image(seed + number, size) for number, size in enumerate(sizes)]
    return {
        **tiny_row(seed, chosen),
        "images": images,
        "rejected": [{"role": "assistant", "content": rejected}],
    }


@pytest.mark.parametrize("template", [BARE_TEMPLATE, WHOLE_TEMPLATE], ids=["left out", "written"])
@given(sizes=st.lists(SIZES, max_size=2))
@settings(max_examples=20)
def test_prompts_are_those_of_transformers(template, sizes):
    processor = bare_processor(template)
    row = pair(0, "Yes.", "No.", sizes)
    text = render(row, processor).prompt
    messages = prepare_multimodal_messages(row["prompt"], images=row["images"])
    inputs = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=True)
    ids = prompt_ids(processor, text, row["images"])
    assert [ids] == torch.as_tensor(inputs["input_ids"]).tolist()
    assert ids[0] == processor.tokenizer.bos_token_id != ids[1]


@given(
    st.lists(st.tuples(WORDS, WORDS, st.lists(SIZES, max_size=2)), min_size=1, max_size=3),
    st.sampled_from([None, 60]),
    st.booleans(),
)
@settings(max_examples=20)
def test_batches_are_those_of_trl_with_a_template_that_writes_the_tokens(contents, max_length, images_per_prompt):
    rows = [pair(10 * seed, *content) for seed, content in enumerate(contents)]
    ours = PreferenceCollator(BARE, max_length, images_per_prompt=images_per_prompt)(rows)
    # Copies, since TRL's collator changes its rows
    theirs = DataCollatorForVisionPreference(bare_processor(WHOLE_TEMPLATE), max_length)([{**row} for row in rows])
    for name in ("input_ids", "attention_mask", "completion_mask"):
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=0)
    # TRL adds neither token
    bare = DataCollatorForVisionPreference(BARE)([{**row} for row in rows])
    assert not (bare["input_ids"][bare["attention_mask"].bool()] == BARE.tokenizer.eos_token_id).any()


def test_a_third_answer_ends_as_the_others():
    row = {**pair(0, "Yes.", "No.", [(30, 40)]), "second_rejected": [{"role": "assistant", "content": "It is late."}]}
    batch = PreferenceCollator(BARE, two_rejected=True, images_per_prompt=True)([row])
    answers = [ids[mask.bool()] for ids, mask in zip(batch["input_ids"], batch["completion_mask"], strict=True)]
    assert BARE.tokenizer.batch_decode(answers) == [f" {text}</s>" for text in ("Yes.", "No.", "It is late.")]


@given(WORDS.map(lambda text: text + "  "))
@settings(max_examples=10)
def test_what_follows_an_answer_is_the_eos_token_alone(answer):
    row = render(tiny_row(answer=answer), BARE)
    assert (row.lead, row.answer, row.tail) == (" ", answer.rstrip(), "</s>")


def test_a_template_that_ends_answers_on_its_own_is_left_alone():
    example = {
        "prompt": prepare_multimodal_messages(tiny_row()["prompt"], images=[None]),
        "completion": prepare_multimodal_messages([{"role": "assistant", "content": "Yes. "}]),
    }
    for end in ("</s>", "###", "<end_of_turn>\n"):
        processor = bare_processor(TEMPLATE.replace("</s>", end))
        assert render_examples([example], processor)[0]["completion"] == f" Yes. {end}"


@pytest.mark.parametrize("name", FAMILIES)
def test_tokenizers_that_begin_with_nothing_get_no_bos_token(name):
    assert bos_ids(family(name)[1]) == []
    assert bos_ids(tiny_processor()) == []


def test_a_tokenizer_without_eos_token_writes_none():
    processor = bare_processor()
    processor.tokenizer.eos_token = None
    assert render(tiny_row(answer="Yes."), processor).tail.strip() == ""


def test_what_is_known_of_a_processor_changes_with_its_template_and_its_tokens():
    def completion(text):
        messages = {"completion": prepare_multimodal_messages([{"role": "assistant", "content": text}])}
        return render_examples([{**prompt, **messages}], processor)[0]["completion"]

    prompt = {"prompt": prepare_multimodal_messages([{"role": "user", "content": "Is it late?"}])}
    processor = bare_processor("<end>dog" + BARE_TEMPLATE)
    assert completion("Yes dog <end>") == " Yes dog <end></s>"
    processor.tokenizer.add_tokens([AddedToken("<end>", special=True)])
    assert completion("Yes dog <end>") == " Yes dog < end></s>"
    processor.tokenizer.add_tokens([AddedToken("dog", special=True)])
    assert completion("Yes dog") == " Yes d og</s>"
    processor.tokenizer.eos_token = "<end>"
    assert completion("Yes") == " Yes<end>"
    processor.chat_template = TEMPLATE
    assert completion("Yes dog") == " Yes dog</s>"


CONTEXT = {"role": "assistant", "content": "There is a red circle."}


def with_context(row, context=CONTEXT):
    return {**row, "prompt": [*row["prompt"], context]}


@pytest.mark.parametrize("template", [BARE_TEMPLATE, WHOLE_TEMPLATE, TEMPLATE], ids=["bare", "whole", "other"])
@given(st.tuples(WORDS, WORDS), st.lists(SIZES, max_size=2), st.booleans())
@settings(max_examples=10)
def test_an_answer_goes_on_with_the_beginning_that_ends_the_prompt(template, answers, sizes, images_per_prompt):
    processor = bare_processor(template)
    chosen, rejected = (f" {answer}" for answer in answers)
    row = with_context(pair(0, chosen, rejected, sizes))
    batch = PreferenceCollator(processor, images_per_prompt=images_per_prompt)([row])
    whole = [pair(0, CONTEXT["content"] + chosen, CONTEXT["content"] + rejected, sizes)]
    alike = PreferenceCollator(processor, images_per_prompt=images_per_prompt)(whole)
    decode = processor.tokenizer.batch_decode
    # The same conversation, of which the loss sees what comes after the beginning
    kept = batch["attention_mask"].bool(), alike["attention_mask"].bool()
    texts = [
        decode([ids[mask] for ids, mask in zip(made["input_ids"], seen, strict=True)])
        for made, seen in zip((batch, alike), kept, strict=True)
    ]
    assert texts[0] == texts[1]
    learnt = [ids[mask.bool()] for ids, mask in zip(batch["input_ids"], batch["completion_mask"], strict=True)]
    assert decode(learnt) == [f"{chosen}</s>", f"{rejected}</s>"]


def test_what_is_continued_is_what_is_trained_on():
    row = with_context(tiny_row(answer=" It is late."))
    llavas = [llama_like(name, "</s>") for name in ("vicuna", "mistral", "34b")]
    for processor in (BARE, tiny_processor(), bare_processor(WHOLE_TEMPLATE), *llavas):
        rendered = render(row, processor)
        assert rendered.prompt.endswith("There is a red circle.")
        assert (rendered.lead, rendered.answer) == ("", " It is late.") and rendered.tail.strip() in (
            "</s>",
            "<|im_end|>",
        )
        assert render({key: row[key] for key in ("images", "prompt")}, processor).prompt == rendered.prompt


def test_a_template_that_changes_a_beginning_is_refused():
    processor = bare_processor(TEMPLATE.replace("{{ part['text'] }}", "{{ part['text'] | length }}{{ part['text'] }}"))
    with pytest.raises(ValueError, match="changes the beginning of an answer"):
        render(with_context(tiny_row(answer=" It is late.")), processor)
