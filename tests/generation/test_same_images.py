"""Several questions to one image, which goes through the model once, beside `generate` row by row."""

import pytest
import torch
from support.families import FAMILIES, family
from support.plain_generate import generated
from support.tiny import counted_images, tiny_image, tiny_row

from trl_mm.generation import Completer, Request, SamplingSettings
from trl_mm.generation.batches import same_beginnings
from trl_mm.generation.prefill import beginnings


TEXTS = ["Is it late?", "Is it 3.5 cm wide? Yes or no.", "Describe the image.", "Is it late?"]
SIZES = [(40, 30), (30, 60), (90, 30)]


def asked(processor, texts=TEXTS, sizes=SIZES):
    """Requests with one image object for each size, the questions of one image apart."""
    images = [tiny_image(seed, size) for seed, size in enumerate(sizes)]
    rows = [
        {**tiny_row(), "images": [image], "prompt": [{"role": "user", "content": text}]}
        for text in texts
        for image in images
    ]
    rows.insert(4, {**tiny_row(), "images": []})
    return [Request(prompt) for prompt in Completer(processor).prompts(rows)]


@pytest.mark.parametrize("prefix", ["", " There is"])
@pytest.mark.parametrize("name", FAMILIES)
def test_answers_are_those_of_generate_one_by_one(name, prefix):
    model, processor = family(name)
    requests = [Request(request.prompt, prefix) for request in asked(processor)]
    found = Completer(processor, SamplingSettings(6, temperature=0.0, batch_size=8)).complete(model, requests)
    expected = [generated(model, processor, request.prompt, prefix) for request in requests]
    assert [text.strip() for text in found] == [text.strip() for text in expected]
    assert len(set(found)) > 1


def test_an_image_is_encoded_once():
    model, processor = family("llava_next")
    writer = Completer(processor, SamplingSettings(3, temperature=0.0, batch_size=2))
    with counted_images(model) as encoded:
        writer.complete(model, asked(processor))
    assert sum(encoded) == len(SIZES)


def test_groups_share_what_stands_before_their_questions():
    _, processor = family("qwen2_vl")
    requests = asked(processor, ["Is it late?", "Is it red?"], SIZES[:2])
    groups, tokens = same_beginnings(requests)
    assert groups == [[0, 2], [1, 3], [4]]
    for group in groups[:2]:
        first, second = (requests[index].prompt.ids for index in group)
        shared = tokens[group[0]]
        assert tokens[group[1]] == shared and torch.equal(first[:shared], second[:shared])
        assert first[shared] != second[shared]
    assert tokens[4] == len(requests[4].prompt.ids)


def test_questions_in_front_of_the_image_share_nothing():
    _, processor = family("llava_next")
    requests = asked(processor, ["Is it late?", "Is it red?"], SIZES[:1])
    for request in requests[:2]:  # as a template has it that writes the text first
        request.prompt.ids = request.prompt.ids.flip(0)
        request.prompt.is_image = request.prompt.is_image.flip(0)
    assert same_beginnings(requests[:2])[0] == [[0], [1]]


def test_beginnings_have_no_gap_in_them():
    inputs = {
        "input_ids": torch.tensor([[9, 9, 1, 2, 3], [4, 5, 6, 7, 8]]),
        "attention_mask": torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]]),
        "pixel_values": torch.ones(2, 3),
    }
    found = beginnings(inputs, [1, 2], 9)
    assert found["input_ids"].tolist() == [[9, 1, 2], [4, 5, 6]]
    assert found["attention_mask"].tolist() == [[0, 1, 1], [1, 1, 1]]
    assert found["pixel_values"] is inputs["pixel_values"] and beginnings(inputs, [0, 0], 9) is inputs
