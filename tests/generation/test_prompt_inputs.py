"""Prompts made one by one are those that the processor makes of a batch."""

import pytest
import torch
from support.families import FAMILIES
from support.tiny import tiny_processor, tiny_row

from trl_mm.generation.prompt_inputs import joined, prompt_inputs
from trl_mm.tokens.chat import render


def rows(*num_images):
    made = [tiny_row(seed, size=(30 + 20 * seed, 40)) for seed in range(len(num_images))]
    return [{**row, "images": row["images"] * number} for row, number in zip(made, num_images, strict=True)]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_is_that_of_the_processor(family):
    _, processor = FAMILIES[family]()
    examples = rows(1, 1, 1)
    expected = processor(
        text=[render(row, processor).prompt for row in examples],
        images=[row["images"] for row in examples],
        padding=True,
        padding_side="left",
        add_special_tokens=False,
        return_tensors="pt",
    )
    found = joined(prompt_inputs(processor, examples), processor.tokenizer.pad_token_id)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def test_any_prompts_make_a_batch():
    processor = tiny_processor()
    prompts = prompt_inputs(processor, rows(1, 0, 2))
    assert "pixel_values" not in prompts[1]
    batch = joined([prompts[number] for number in (2, 1, 2)], 0)
    assert len(batch["input_ids"]) == 3 and len(batch["pixel_values"]) == len(batch["image_sizes"]) == 4
    assert batch["attention_mask"].sum(1).tolist() == [prompts[n]["input_ids"].shape[1] for n in (2, 1, 2)]
    assert "pixel_values" not in joined([prompts[1]], 0)
