"""`PreferenceCollator` beside the one of TRL that it extends."""

from contextlib import ExitStack
from copy import deepcopy
from unittest import mock

import PIL.Image
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.families import FAMILIES, family
from support.tiny import TEXTS, bare_processor, tiny_image, tiny_processor, tiny_row
from trl.trainer.dpo_trainer import DataCollatorForVisionPreference

from trl_mm.data.images import resolve_image
from trl_mm.tokens.chat import prompt_ids, render
from trl_mm.tokens.collator import PreferenceCollator
from trl_mm.tokens.processor import TOKEN_INPUTS


PROCESSOR = tiny_processor()
WORDS = st.lists(st.sampled_from(" ".join(TEXTS).split()), min_size=1, max_size=12).map(" ".join)
SIZES = st.none() | st.tuples(st.integers(5, 130), st.integers(5, 130))


def pair(seed=0, chosen="Yes, it is.", rejected="No, there is none.", size=(40, 30)):
    return {
        **tiny_row(seed, chosen, size or (5, 5)),
        "images": [tiny_image(seed, size)] if size else [],
        "rejected": [{"role": "assistant", "content": rejected}],
    }


def assert_equal_batches(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=0, atol=0)


@settings(max_examples=30)
@given(st.lists(st.tuples(WORDS, WORDS, SIZES), min_size=1, max_size=4), st.sampled_from([None, 40]))
def test_batches_are_those_of_trl(contents, max_length):
    rows = [pair(seed, *content) for seed, content in enumerate(contents)]
    stored = [
        {**row, "images": [resolve_image(image) for image in row["images"]], "label": 1, "source": "x"} for row in rows
    ]
    before = deepcopy(stored)
    ours = PreferenceCollator(PROCESSOR, max_length)(stored)
    assert stored == before
    assert_equal_batches(ours, DataCollatorForVisionPreference(PROCESSOR, max_length)(rows))
    assert ("pixel_values" in ours) == any(row["images"] for row in rows)


@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=8)
@given(
    st.lists(st.tuples(WORDS, WORDS, st.integers(0, 2)), min_size=1, max_size=3),
    st.sampled_from([None, 40]),
    st.booleans(),
)
def test_batches_of_every_family_are_those_of_trl(name, contents, max_length, images_per_prompt):
    processor = family(name)[1]
    rows = [
        {**pair(seed, chosen, rejected), "images": [tiny_image(seed + number) for number in range(count)]}
        for seed, (chosen, rejected, count) in enumerate(contents)
    ]
    ours = PreferenceCollator(processor, max_length, images_per_prompt=images_per_prompt)(rows)
    theirs = dict(DataCollatorForVisionPreference(processor, max_length)(rows))
    if images_per_prompt:
        for key in theirs.keys() - {*TOKEN_INPUTS, "completion_mask"}:
            once, again = theirs[key].chunk(2)
            assert torch.equal(once, again)
            theirs[key] = once
    assert_equal_batches(ours, theirs)


def test_images_of_every_form_and_mode_become_the_same_pixels(tmp_path):
    image = PIL.Image.new("RGB", (40, 30), (200, 30, 60))
    forms = [image, image.convert("RGBA"), image.convert("P", palette=PIL.Image.Palette.ADAPTIVE)]
    for form in forms[:3]:
        path = tmp_path / f"{form.mode}.png"
        form.save(path)
        forms += [str(path), path.read_bytes(), {"bytes": None, "path": str(path)}]
    collator = PreferenceCollator(PROCESSOR)
    expected = DataCollatorForVisionPreference(PROCESSOR)([{**pair(), "images": [image]}])
    for form in forms:
        assert_equal_batches(collator([{**pair(), "images": [form]}]), expected)


@pytest.mark.parametrize("missing", [{}, {"rejected": None}])
def test_rows_without_rejected_pass_through_as_they_are(missing):
    row = {**tiny_row(), "images": ["not/opened.png"], **missing}
    rows = [row, {**pair(1), "images": []}]
    batch = PreferenceCollator(PROCESSOR)(rows)
    assert list(batch) == ["rows"] and batch["rows"] is rows


def test_a_batch_is_what_the_model_takes():
    batch = PreferenceCollator(PROCESSOR)([pair(0), pair(1, size=None)])
    assert batch["input_ids"].shape == batch["attention_mask"].shape == batch["completion_mask"].shape
    assert batch["input_ids"].shape[0] == 4  # both chosen, then both rejected
    assert batch["pixel_values"].shape[0] == 2  # the one image, once for chosen and once for rejected


@pytest.mark.parametrize("images_per_prompt", [False, True])
def test_reference_log_probabilities_come_as_tensors(images_per_prompt):
    rows = [{**pair(seed), "ref_chosen_logps": -1.5 - seed, "ref_rejected_logps": -2.5} for seed in range(2)]
    batch = PreferenceCollator(PROCESSOR, images_per_prompt=images_per_prompt)(rows)
    torch.testing.assert_close(batch["ref_chosen_logps"], torch.tensor([-1.5, -2.5]), rtol=0, atol=0)
    assert batch["ref_rejected_logps"].shape == (2,) and batch["ref_rejected_logps"].dtype == torch.float32


def test_sampled_answers_follow_the_prompt_that_they_were_sampled_from():
    """LLaVA-OneVision's template puts a newline after the role where an answer is asked for, else a space."""
    processor = bare_processor(
        "{% for message in messages %}<|im_start|>{{ message['role'] }} {% for part in message['content'] %}"
        "{% if part['type'] == 'image' %}<image>\n{% else %}\n{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    row = {**pair(), "rejected": None, "answer_ids": [[7, 8, 9], [8]]}
    batch = PreferenceCollator(processor, images_per_prompt=True)([row, pair(1)])
    prompt = render({"images": row["images"], "prompt": row["prompt"]}, processor).prompt
    expected = prompt_ids(processor, prompt, row["images"])
    assert prompt.endswith("assistant\n")
    for index, answer in ((0, [7, 8, 9]), (2, [8])):
        assert batch["input_ids"][index][batch["attention_mask"][index].bool()].tolist() == expected + answer
        assert batch["completion_mask"][index].sum() == len(answer)


def test_a_third_answer_stands_beside_the_others_and_its_pair_is_that_of_trl():
    rows = [
        {**pair(0, "Yes.", "No, there is none. It is late."), "second_rejected": "A cat."},
        {**pair(1, "It is late.", "No.", size=None), "second_rejected": "The sky is blue! A dog and a cat sit."},
    ]
    for row in rows:
        row["second_rejected"] = [{"role": "assistant", "content": row["second_rejected"]}]
    trl = DataCollatorForVisionPreference(PROCESSOR)
    stored, sampled = trl(deepcopy(rows)), trl([{**row, "rejected": row["second_rejected"]} for row in rows])
    pairs = PreferenceCollator(PROCESSOR, two_rejected=True)(rows)["pairs"]
    assert_equal_batches(pairs[0], stored)
    assert_equal_batches(pairs[1], sampled)
    batch = PreferenceCollator(PROCESSOR, images_per_prompt=True, two_rejected=True)(rows)
    assert batch["input_ids"].shape[0] == 6 and batch["pixel_values"].shape[0] == 1

    def read(of, place):
        shown = of["attention_mask"][place].bool()
        return of["input_ids"][place][shown].tolist(), of["completion_mask"][place][shown].tolist()

    expected = [read(stored, place) for place in range(4)] + [read(sampled, place) for place in (2, 3)]
    assert [read(batch, place) for place in range(6)] == expected


@pytest.mark.parametrize("images_per_prompt", [False, True])
def test_a_row_is_rendered_and_its_image_processed_once(images_per_prompt):
    rows, collator = [pair(0), pair(1)], PreferenceCollator(PROCESSOR, images_per_prompt=images_per_prompt)
    collator(rows)  # what does not depend on the rows is known afterwards
    kinds = (type(PROCESSOR), "apply_chat_template"), (type(PROCESSOR.image_processor), "preprocess")
    with ExitStack() as stack:
        rendered, processed = (
            stack.enter_context(mock.patch.object(*kind, autospec=True, side_effect=getattr(*kind))) for kind in kinds
        )
        collator(rows)
    assert rendered.call_count == 3 * len(rows)  # alone, and with each answer
    assert [len(call.args[1]) for call in processed.call_args_list] == [len(rows)]


def test_batches_are_not_padded_to_a_multiple():
    with pytest.raises(NotImplementedError, match="pad_to_multiple_of=8"):
        PreferenceCollator(PROCESSOR, pad_to_multiple_of=8)([pair()])
