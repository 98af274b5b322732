"""Samples of one prompt beside `generate` on repeated prompts."""

import pytest
import torch
from support.tiny import tiny_image, tiny_model, tiny_processor, tiny_row
from transformers import GenerationConfig

from trl_mm.generation.answers import sample_answers, up_to_eos


TEXT = {"type": "text", "text": "Describe the image."}


def rows(count=3):
    made = [tiny_row(seed, size=(30 + 10 * seed, 40)) for seed in range(count)]
    made[1]["images"] = []
    made[2]["images"] = [tiny_image(5), tiny_image(6, (60, 30))]
    return made


def config(**settings):
    return GenerationConfig(
        **{"max_new_tokens": 6, "do_sample": True, "eos_token_id": 1, "pad_token_id": 0, **settings}
    )


def sample(rows, config, seed=0, count=2, model=None):
    seeds = [(seed, row["row_id"]) for row in rows]
    return sample_answers(model or tiny_model(scale=4), tiny_processor(), rows, config, seeds, count)


@pytest.mark.parametrize("settings", [{}, {"repetition_penalty": 1.5}, {"no_repeat_ngram_size": 2}], ids=str)
def test_greedy_answers_are_those_of_generate(settings):
    """With settings that look at the tokens of the prompt too, where it cannot be shared."""
    model, processor = tiny_model(scale=4), tiny_processor()
    answers = sample(rows(), config(do_sample=False, **settings), model=model)
    for row, (first, second) in zip(rows(), answers, strict=True):
        text = processor.apply_chat_template(
            [{"role": "user", "content": [*({"type": "image"} for _ in row["images"]), TEXT]}],
            add_generation_prompt=True,
        )
        inputs = processor(text=text, images=row["images"] or None, return_tensors="pt", add_special_tokens=False)
        ids = model.generate(
            **inputs, max_new_tokens=6, do_sample=False, suppress_tokens=[processor.image_token_id], eos_token_id=1,
            pad_token_id=0, **settings,
        )  # fmt: skip
        assert first == second == up_to_eos(ids[0, inputs["input_ids"].shape[1] :].tolist(), [1])


def test_samples_differ_and_derive_from_their_seeds_alone():
    settings = config()
    together = sample(rows(), settings)
    assert together == [sample([row], settings)[0] for row in rows()]
    assert all(first != second for first, second in together)
    assert together != sample(rows(), settings, seed=1)
    assert together == [pair[:2] for pair in sample(rows(), settings, count=3)]


def test_samples_follow_the_distribution_of_generate():
    model = tiny_model(scale=4)
    settings = config(max_new_tokens=1, temperature=0.7, top_k=5, min_p=0.05)
    (answers,) = sample(rows()[:1], settings, count=400, model=model)
    processor = tiny_processor()
    text = processor.apply_chat_template(
        [{"role": "user", "content": [{"type": "image"}, TEXT]}],
        add_generation_prompt=True,
    )
    inputs = processor(text=text, images=rows()[0]["images"], return_tensors="pt", add_special_tokens=False)
    output = model.generate(
        **inputs, max_new_tokens=1, do_sample=True, temperature=0.7, top_k=5, top_p=1.0, min_p=0.05,
        suppress_tokens=[processor.image_token_id], output_scores=True, return_dict_in_generate=True, pad_token_id=0,
    )  # fmt: skip
    expected = output.scores[0][0].softmax(-1)
    counts = torch.bincount(torch.tensor([ids[0] for ids in answers]), minlength=len(expected))
    possible = expected > 0
    assert counts[~possible].sum() == 0
    spread = (400 * expected * (1 - expected)).sqrt()
    assert ((counts - 400 * expected).abs() <= 4 * spread + 1).all()


def test_beams_are_refused():
    with pytest.raises(ValueError, match="`num_beams` must be 1, got 4"):
        sample(rows(), config(num_beams=4))


@pytest.mark.parametrize(("ids", "cut"), [([5, 6, 1, 0, 0], [5, 6, 1]), ([5, 6], [5, 6]), ([1, 0], [1]), ([], [])])
def test_answers_end_with_their_eos_token(ids, cut):
    assert up_to_eos(ids, [1]) == cut
