"""Rows that show the same images: batches beside those of TRL's collator, and which rows are groups."""

from copy import deepcopy
from unittest import mock

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.families import FAMILIES, family
from support.rows import said
from support.tiny import TEXTS, tiny_image, tiny_processor
from transformers import LlavaNextImageProcessor
from trl.trainer.dpo_trainer import DataCollatorForVisionPreference

from trl_mm.data.images import ImageError, open_image, resolve_image
from trl_mm.tokens.collator import PACKED_SIZES, PreferenceCollator
from trl_mm.tokens.image_groups import image_groups, open_once, settled_groups, tokenizes_apart
from trl_mm.tokens.prefix_tree import border, packed_size, prefix_tree
from trl_mm.tokens.processor import TOKEN_INPUTS
from trl_mm.trainer.prefix_sharing.forest import pack_forest


WORDS = st.lists(st.sampled_from(" ".join(TEXTS).split()), min_size=1, max_size=3).map(" ".join)
# Few images, in one form of a file each
ROW = st.tuples(st.lists(st.integers(0, 1), max_size=2), WORDS, WORDS, WORDS)
WRITES_AROUND = ["gemma3"]  # two newlines, which run into the text


def row(images, question, chosen="Yes, it is.", rejected="No."):
    return {
        "images": [resolve_image(tiny_image(seed, (40 + 20 * seed, 30))) for seed in images],
        "prompt": [{"role": "user", "content": question}],
        "chosen": said(chosen),
        "rejected": said(rejected),
    }


def collator(processor, **settings):
    return PreferenceCollator(processor, images_per_prompt=True, images_per_group=True, **settings)


# Images of few tokens do not make up for any padding
unsettled = mock.patch("trl_mm.tokens.collator.settled_groups", lambda groups, *_: groups)


@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=12)
@given(st.lists(ROW, min_size=1, max_size=5))
def test_tokens_are_those_of_trl_and_images_those_of_the_leaders(name, contents):
    processor = family(name)[1]
    rows = [row(*content) for content in contents]
    with unsettled:
        batch = collator(processor)(deepcopy(rows))
    opened = [{**row, "images": [open_image(image) for image in row["images"]]} for row in rows]
    theirs = DataCollatorForVisionPreference(processor)(opened)
    groups = batch["groups"].tolist()
    leaders = [groups.index(group) for group in range(max(groups) + 1)]
    assert leaders == sorted(leaders)
    for number, group in enumerate(groups):
        assert rows[number]["images"] == rows[leaders[group]]["images"]
    of_leaders = PreferenceCollator(processor, images_per_prompt=True)([rows[leader] for leader in leaders])
    assert {*batch} - {"groups", PACKED_SIZES} == {*theirs}
    pairs = pack_forest(
        batch["input_ids"], batch["input_ids"].where(batch["completion_mask"] == 1, -100), batch["groups"]
    )
    of_trl, computed, places = batch[PACKED_SIZES].tolist()
    assert of_trl == theirs["attention_mask"].sum()
    assert computed == (pairs.branch >= 0).sum() and places == pairs.branch.numel()
    for key in theirs:
        wanted = theirs if key in (*TOKEN_INPUTS, "completion_mask") else of_leaders
        assert torch.equal(batch[key], wanted[key]), key


@pytest.mark.parametrize("name", FAMILIES)
@unsettled
def test_questions_to_one_image_are_one_group(name):
    processor = family(name)[1]
    assert tokenizes_apart(processor) == (name not in WRITES_AROUND)
    rows = [row([0], "Is it late?"), row([1], "Is it late?"), row([0], "Is the sky blue?"), row([0], "Is it late?")]
    batch = collator(processor)(rows)
    assert batch["groups"].tolist() == ([0, 1, 2, 0] if name in WRITES_AROUND else [0, 1, 0, 0])


def test_what_groups_are():
    keys, prompts = ["a", "b", "a", "a"], ["U: <i> x", "U: <i> x", "U: <i> y", "<i> U: x"]
    assert image_groups(keys, prompts, "<i>") == [0, 1, 0, 2]  # the last has other tokens before its image
    assert image_groups(keys, prompts, None) == [0, 1, 2, 3]
    assert image_groups(["a", "a"], ["x <i> y <i> z", "x <i> v <i> z"], "<i>") == [0, 1]
    assert image_groups([(), (), ()], ["x", "y", "x"], "<i>") == [0, 1, 0]  # no image
    assert image_groups(["a", "a"], ["x", "y"], "<i>") == [0, 1]  # a placeholder that is written in another way


def test_an_image_is_opened_and_processed_once():
    processor = tiny_processor()
    rows = [row([0, 1], "Is it late?"), row([0, 1], "Is the sky blue?"), row([], "Is it?"), row([0, 1], "A dog?")]
    made = collator(processor)
    made(rows)  # what does not depend on the rows is known afterwards
    with (
        mock.patch("trl_mm.data.images.open_image", wraps=open_image) as opened,
        mock.patch.object(
            type(processor.image_processor),
            "preprocess",
            autospec=True,
            side_effect=LlavaNextImageProcessor.preprocess,
        ) as processed,
    ):
        batch = made(rows)
    assert opened.call_count == 2 and [len(call.args[1]) for call in processed.call_args_list] == [2]
    assert len(batch["pixel_values"]) == 2 and batch["groups"].tolist() == [0, 0, 1, 0]


def test_images_in_memory_are_known_by_their_pixels():
    pairs = [{"images": [tiny_image(seed).convert(mode)]} for seed, mode in ((0, "RGB"), (0, "RGBA"), (1, "RGB"))]
    _, keys = open_once(pairs)
    assert keys[0] == keys[1] != keys[2]
    wide = PIL.Image.new("RGB", (6, 4)), PIL.Image.new("RGB", (4, 6))
    _, keys = open_once([{"images": [image]} for image in wide])
    assert keys[0] != keys[1]
    with pytest.raises(ImageError, match="Row 7: .*cannot be decoded|Row 7: .*no image"):
        open_once([{"row_id": 7, "images": [{"bytes": b"no image", "path": None}]}])


def lengths(prompt, *answers, first=0):
    """Sequences of a row, whose answers differ from the first token on, and the length of its prompt."""
    head = np.arange(prompt) + 10
    return [np.append(head, first + 1000 * (kind + 1) + np.arange(size)) for kind, size in enumerate(answers)], prompt


def settle(groups, *rows):
    return settled_groups(groups, [sequences for sequences, _ in rows], [begin for _, begin in rows])


def test_a_group_is_parted_where_padding_costs_more_than_it_spares():
    same, other = lengths(5, 20, 20), lengths(5, 20, 20, first=100)
    assert settle([0, 0], same, other) == [0, 0]  # alone it needs no padding
    assert settle([0, 0, 0], same, same, other) == [0, 0, 0]
    # 2 rows of 5 + 80 tokens, or 3 of 5 + 40
    assert settle([0, 0, 1], same, other, lengths(5, 20, 20, first=300)) == [0, 1, 2]
    long = lengths(500, 20, 20), lengths(500, 20, 20, first=100)
    assert settle([0, 0, 1], *long, lengths(500, 20, 20, first=300)) == [0, 0, 1]
    # Parted so far that what is left is no wider than the others; equal rows stay together
    assert settle([0, 0, 0, 0, 1], same, other, same, other, lengths(5, 20, 20, first=300)) == [0, 1, 0, 1, 2]


@given(st.data())
def test_groups_never_need_more_room_than_single_rows(data):
    size = st.integers(1, 9)
    count = data.draw(st.integers(1, 6))
    rows = [lengths(data.draw(size), data.draw(size), data.draw(size), first=data.draw(size)) for _ in range(count)]
    numbers = {}
    groups = [numbers.setdefault(data.draw(st.integers(0, 2)), len(numbers)) for _ in rows]
    settled = settle(groups, *rows)

    def room(groups):
        members = [[row for row in range(count) if groups[row] == group] for group in sorted(set(groups))]
        trees = [prefix_tree([ids for row in member for ids in rows[row][0]]) for member in members]
        borders = [border(tree, [rows[row][1] for row in member]) for tree, member in zip(trees, members, strict=True)]
        return len(trees) * packed_size(trees, borders)[1]

    assert room(settled) <= min(room(groups), room(list(range(count))))
    assert all(len({groups[row] for row in range(count) if settled[row] == group}) == 1 for group in settled)
    assert [settled.index(group) for group in sorted(set(settled))] == sorted(map(settled.index, set(settled)))


def test_parted_groups_have_their_images_each():
    questions = ("Is it?", "A cat?", "Yes?", "No dog?")
    long = [row([0], question, f"{question} {TEXTS[0]}", TEXTS[1]) for question in questions]
    batch = collator(tiny_processor())([*long, row([1], "Is it?", TEXTS[0], TEXTS[1])])
    assert batch["groups"].tolist() == [0, 1, 2, 3, 4] and len(batch["pixel_values"]) == 5
    batch = collator(tiny_processor())(long)
    assert batch["groups"].tolist() == [0, 0, 0, 0] and len(batch["pixel_values"]) == 1
