"""Completions of prefilled prompts beside `generate` from the whole prompt."""

import pytest
import torch
from support.families import FAMILIES, family
from support.tiny import counted_images, tiny_row
from transformers import GenerationConfig

from trl_mm.generation import Completer, Request, generating
from trl_mm.generation.inputs import model_inputs
from trl_mm.generation.prefill import continue_from, prefill


SIZES = [(40, 30), (30, 60), (90, 30)]
HIDING = ["llava", "vipllava", "llava_next"]


def requests(processor, text_only=True):
    rows = [tiny_row(seed, size=size) for seed, size in enumerate(SIZES)]
    rows += [{**tiny_row(9), "images": []}] * text_only
    return [Request(prompt) for prompt in Completer(processor).prompts(rows)]


def greedy(processor, num_tokens=5):
    return GenerationConfig(
        max_new_tokens=num_tokens,
        suppress_tokens=[processor.image_token_id, processor.tokenizer.eos_token_id],
        pad_token_id=processor.tokenizer.pad_token_id,
    )


def from_the_whole(model, processor, request, continued, positions="collapsed"):
    """New tokens (`list[int]`) of one prompt, its own batch."""
    inputs = model_inputs(model, processor, [request], [continued], positions)
    start = inputs["input_ids"].shape[1] if "input_ids" in inputs else 0
    return model.generate(**inputs, generation_config=greedy(processor))[0, start:].tolist()


def from_prefilled(model, processor, prefilled, rows, continued=None):
    inputs = continue_from(model, prefilled, rows, continued)
    return model.generate(**inputs, generation_config=greedy(processor))[:, inputs["input_ids"].shape[1] :].tolist()


def prefilled_prompts(model, processor, asked, positions="collapsed"):
    inputs = model_inputs(model, processor, asked, [[]] * len(asked), positions)
    return prefill(model, inputs, [int(request.prompt.ids[-1]) for request in asked])


@pytest.mark.parametrize("name", FAMILIES)
def test_repeated_prompts_are_completed_as_they_are_on_their_own(name):
    model, processor = family(name)
    asked = requests(processor)
    rows = [2, 0, 0, 3, 1, 1, 1]
    with generating(model):
        prefilled = prefilled_prompts(model, processor, asked)
        found = from_prefilled(model, processor, prefilled, rows)
        again = from_prefilled(model, processor, prefilled, rows[::-1])
        expected = [from_the_whole(model, processor, asked[row], []) for row in rows]
    assert found == expected and again == expected[::-1]
    assert len({tuple(ids) for ids in found}) > 1


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "gemma3"])
def test_prefixes_of_different_lengths_follow_a_shared_prompt(name):
    model, processor = family(name)
    asked = requests(processor)
    texts = [" There", " There is a red circle. There is", "", " A dog"]
    continued = [processor.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    rows = [1, 1, 2, 3]
    with generating(model):
        found = from_prefilled(model, processor, prefilled_prompts(model, processor, asked), rows, continued)
        expected = [
            from_the_whole(model, processor, asked[row], ids) for row, ids in zip(rows, continued, strict=True)
        ]
    assert found == expected


def test_windows_take_prefixes_of_one_length_only():
    model, processor = family("gemma3")
    asked = requests(processor)
    with generating(model):
        prefilled = prefilled_prompts(model, processor, asked)
        found = from_prefilled(model, processor, prefilled, [0, 2], [[300, 301], [302, 303]])
        expected = [
            from_the_whole(model, processor, asked[row], ids) for row, ids in [(0, [300, 301]), (2, [302, 303])]
        ]
        with pytest.raises(ValueError, match="`gemma3` model has sliding windows.*once for each length"):
            continue_from(model, prefilled, [0, 2], [[300], [302, 303]])
    assert found == expected


@pytest.mark.parametrize("positions", ["collapsed", "original"])
@pytest.mark.parametrize("name", HIDING)
def test_hidden_tokens_keep_or_close_their_gaps(name, positions):
    model, processor = family(name)
    asked = requests(processor)
    for request in asked:
        request.visible = torch.arange(request.prompt.num_image_tokens) % 3 == 0
    rows, continued = [0, 2, 2, 3], [[], [300, 301], [302], []]
    with generating(model):
        prefilled = prefilled_prompts(model, processor, asked, positions)
        found = from_prefilled(model, processor, prefilled, rows, continued)
        expected = [
            from_the_whole(model, processor, asked[row], ids, positions)
            for row, ids in zip(rows, continued, strict=True)
        ]
    assert found == expected


def test_the_prompt_goes_through_the_model_once():
    model, processor = family("llava_next")
    asked = requests(processor, text_only=False)
    widths = []
    hook = model.model.language_model.layers[0].register_forward_pre_hook(
        lambda module, args: widths.append(tuple(args[0].shape[:2]))
    )
    with counted_images(model) as encoded_images, generating(model):
        prefilled = prefilled_prompts(model, processor, asked)
        from_prefilled(model, processor, prefilled, [0, 0, 1, 1, 2, 2])
    hook.remove()
    length = max(len(request.prompt.ids) for request in asked)
    assert widths == [(3, length - 1)] + [(6, 1)] * 5
    assert sum(encoded_images) == len(SIZES)
