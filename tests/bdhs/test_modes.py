"""The modes of BDHS beside plain transformers: what the model is shown, and what it then writes."""

from dataclasses import replace
from unittest import mock

import PIL.Image
import pytest
import torch
from support.families import family
from support.tiny import counted_images, tiny_model, tiny_processor, tiny_row
from transformers import GenerationConfig

from trl_mm import BDHSConfig, BDHSDataGenerator, BDHSSampler
from trl_mm.bdhs.metrics import pair_metrics
from trl_mm.bdhs.modes import MODES, Mode
from trl_mm.bdhs.noise import noisy_image
from trl_mm.bdhs.summary import hint
from trl_mm.generation.completer import image_token_ids
from trl_mm.tokens.chat import render


PROCESSOR = tiny_processor()
MODEL = tiny_model(scale=8)
FAST = {"similarity": "lexical", "max_sentence_tokens": 6, "max_answer_tokens": 8}
SIZES = [(40, 30), (30, 60), (90, 30)]
FAMILIES = ["llava_next", "llava_onevision", "qwen2_5_vl", "internvl"]


def sampler(processor=PROCESSOR, **settings):
    return BDHSSampler(BDHSConfig(**{**FAST, **settings}), processor)


def rows(**columns):
    answers = ["There is a red circle. There is a green square.", "Yes.", "The sky is blue! It is late."]
    pairs = zip(SIZES, answers, strict=True)
    return [tiny_row(seed, answer, size, **columns) for seed, (size, answer) in enumerate(pairs)]


def rejected(pairs):
    return [pair["rejected"][-1]["content"] for pair in pairs]


def processed(row, processor, steps=500, seed=0, step=0, attempt=1):
    """Rendered row, and inputs as the processor makes them from its noisy images."""
    images = [
        noisy_image(image, steps, (seed, step, row["row_id"], attempt, number))
        for number, image in enumerate(row["images"])
    ]
    rendered = render(row, processor)
    return rendered, processor(
        text=[rendered.prompt], images=[images] if images else None, add_special_tokens=False, return_tensors="pt"
    )


def generated(model, processor, inputs, num_tokens):
    config = GenerationConfig(
        max_new_tokens=num_tokens,
        min_new_tokens=1,
        suppress_tokens=image_token_ids(model.config, processor),
        pad_token_id=processor.tokenizer.pad_token_id,
        eos_token_id=processor.tokenizer.eos_token_id,
    )
    ids = model.generate(**inputs, generation_config=config)[0, inputs["input_ids"].shape[1] :]
    return readable(ids, processor)


def readable(ids, processor=PROCESSOR):
    """Text without the bytes that are no character, of which random weights write many."""
    return processor.tokenizer.decode(ids, skip_special_tokens=True).replace("\ufffd", "")


def followed(inputs, ids):
    """Inputs of the processor with more tokens behind them."""
    ids = torch.tensor(ids).long()[None]
    inputs["input_ids"] = torch.cat([inputs["input_ids"], ids], 1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    if "mm_token_type_ids" in inputs:
        inputs["mm_token_type_ids"] = torch.cat([inputs["mm_token_type_ids"], torch.zeros_like(ids)], 1)
    return inputs


@pytest.mark.parametrize("name", FAMILIES)
def test_unguided_answers_under_noise_are_those_of_generate_on_the_noisy_image(name):
    model, processor = family(name)
    given = [*rows(), {**tiny_row(9), "images": []}]
    settings = {"mode": "noise", "guided": False, "temperature": 0.0, "max_attempts": 1, "noise_steps": 700}
    pairs = sampler(processor, **settings, seed=3)(model, given, 5)
    texts = [generated(model, processor, processed(row, processor, 700, 3, 5)[1], 8).strip() for row in given]
    expected = [text or row["chosen"][0]["content"] for text, row in zip(texts, given, strict=True)]
    assert rejected(pairs) == expected
    assert [pair["images"] for pair in pairs] == [row["images"] for row in given], "pairs keep the clean images"
    assert not any(pair["bdhs_guided"] for pair in pairs)
    clean = sampler(processor, **{**settings, "noise_steps": 1})(model, given, 5)
    assert rejected(clean) != expected


def test_guided_sentences_under_noise_are_continued_by_generate_on_the_noisy_image():
    made = sampler(mode="noise", temperature=0.0, max_attempts=1, swap_probability=0.0)
    asked = []

    def complete(model, requests, *args, **kwargs):
        asked.extend(requests)
        return original(model, requests, *args, **kwargs)

    original = made.sentences.complete
    with mock.patch.object(made.sentences, "complete", complete):
        pairs = made(MODEL, rows())
    for row, pair in zip(rows(), pairs, strict=True):
        requests = [request for request in asked if request.prompt.row["row_id"] == row["row_id"]]
        assert all(request.visible is None and request.prompt is requests[0].prompt for request in requests)
        for request in requests:
            prefix = PROCESSOR.tokenizer(request.prefix, add_special_tokens=False)["input_ids"]
            inputs = followed(processed(row, PROCESSOR)[1], prefix)
            assert generated(MODEL, PROCESSOR, inputs, 6).split(".")[0].strip() in rejected([pair])[0]


def test_each_attempt_draws_a_new_noise_and_encodes_each_row_once():
    made = sampler(mode="noise", max_attempts=3)
    made.similarity = lambda answers, chosen: [1.0] * len(answers)
    shown = []

    def noise(*args):
        shown.append(noisy_image(*args))
        return shown[-1]

    with (
        mock.patch("trl_mm.bdhs.noise.noisy_image", noise),
        counted_images(MODEL) as encoded_images,
    ):
        made(MODEL, rows())
    assert len({image.tobytes() for image in shown}) == len(shown) == 3 * len(SIZES)
    assert sum(encoded_images) == 3 * len(SIZES), "sentences share their images"


@pytest.mark.parametrize("settings", [{"mode": "noise"}, {"mode": "noise", "guided": False}, {"mode": "povid"}])
def test_equal_seeds_give_equal_pairs_whatever_the_batch(settings):
    together = rejected(sampler(batch_size=2, **settings)(MODEL, rows()))
    assert together == [rejected(sampler(**settings)(MODEL, [row]))[0] for row in reversed(rows())][::-1]
    assert together != rejected(sampler(seed=1, **settings)(MODEL, rows()))
    assert together != rejected(sampler(**settings)(MODEL, rows(), 7))


@pytest.mark.parametrize("name", FAMILIES)
def test_povid_answers_are_the_argmax_of_a_plain_forward_on_the_noisy_image(name):
    model, processor = family(name)
    given = [*rows(), {**tiny_row(9, "No."), "images": []}]
    with mock.patch.object(model, "generate") as generate:
        pairs = sampler(processor, mode="povid", batch_size=3)(model, given)
    generate.assert_not_called()
    for row, pair in zip(given, pairs, strict=True):
        rendered, inputs = processed(row, processor)
        answer = processor.tokenizer(rendered.lead + rendered.answer, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logits = model(**followed(inputs, answer)).logits[0]
        logits[:, processor.tokenizer.all_special_ids] = -torch.inf
        tokens = logits[-len(answer) - 1 : -1].argmax(-1)
        assert rejected([pair]) == [readable(tokens, processor).strip() or rendered.answer]
        assert (pair["bdhs_attempts"], pair["bdhs_guided"]) == (1, True)
        assert pair["images"] == row["images"]
    assert [pair["bdhs_similarity"] for pair in pairs] == pytest.approx(
        sampler().similarity(rejected(pairs), [row["chosen"][0]["content"] for row in given]), abs=1e-6
    )


def test_povid_predicts_no_special_token_and_rewrites_the_last_turn_alone():
    model = tiny_model(scale=8)
    with torch.no_grad():  # the likeliest tokens by far, wherever they may be chosen
        for token in (PROCESSOR.image_token_id, PROCESSOR.tokenizer.eos_token_id):
            model.lm_head.weight[token] = 100 * model.lm_head.weight[token].sign()
    turns = [
        {"role": "assistant", "content": "A dog."},
        {"role": "user", "content": "Is it late?"},
        {"role": "assistant", "content": "No, there is none."},
    ]
    made = sampler(mode="povid")
    (pair,) = made(model, [{**tiny_row(), "chosen": turns}])
    assert pair["rejected"][:2] == turns[:2]
    text = pair["rejected"][2]["content"]
    assert text and not any(token in text for token in PROCESSOR.tokenizer.all_special_tokens)

    rendered, inputs = processed({**tiny_row(), "chosen": turns}, PROCESSOR)
    answer = PROCESSOR.tokenizer(" No, there is none.", add_special_tokens=False)["input_ids"]
    whole = PROCESSOR.tokenizer(rendered.lead + rendered.answer, add_special_tokens=False)["input_ids"]
    assert whole[-len(answer) :] == answer
    with torch.no_grad():
        logits = model(**followed(inputs, whole)).logits[0]
    logits[:, PROCESSOR.tokenizer.all_special_ids] = -torch.inf
    assert text == readable(logits[-len(answer) - 1 : -1].argmax(-1)).strip()


@pytest.mark.parametrize("mode", ["attention", "noise"])
def test_without_guidance_every_attempt_is_a_full_answer_and_passes_the_gate_or_not(mode):
    made = sampler(mode=mode, guided=False, max_attempts=3, mask_threshold=0.5)
    made.similarity = lambda answers, chosen: [1.0 if "red" in text else 0.1 for text in chosen]
    asked = []

    def complete(model, requests, find_end=None, positions="collapsed"):
        asked.append(requests)
        return [" A dog."] * len(requests)

    with (
        mock.patch.object(made.answers, "complete", complete),
        mock.patch.object(made.sentences, "complete", side_effect=AssertionError("a sentence was completed")),
    ):
        pairs = made(MODEL, rows())
    assert [pair["bdhs_attempts"] for pair in pairs] == [3, 1, 1]
    assert not any(pair["bdhs_guided"] for pair in pairs) and rejected(pairs) == ["A dog."] * 3
    assert [len(requests) for requests in asked] == [3, 1, 1] and {r.prefix for call in asked for r in call} == {""}


def test_a_mask_that_hides_nothing_works_for_any_model_and_is_no_mask():
    model, processor = family("qwen2_5_vl")
    settings = {"mask_threshold": 0.0, "guided": False, "temperature": 0.0, "max_attempts": 1}
    row = rows()[0]
    rendered = render(row, processor)
    inputs = processor(text=[rendered.prompt], images=[row["images"]], add_special_tokens=False, return_tensors="pt")
    pairs = sampler(processor, **settings)(model, [row])
    assert rejected(pairs) == [generated(model, processor, inputs, 8).strip()]
    with pytest.raises(ValueError, match="`qwen2_5_vl` model cannot be hidden.*set `mode='noise'`"):
        sampler(processor, **{**settings, "mask_threshold": 0.5})(model, [row])


def flipped(images, config, seed):
    return [image.transpose(PIL.Image.Transpose.FLIP_LEFT_RIGHT) for image in images]


def test_a_mode_is_an_entry_of_the_table(monkeypatch):
    with pytest.raises(ValueError, match="`mode` must be one of attention, noise, povid, got 'flip'"):
        BDHSConfig(mode="flip")
    monkeypatch.setitem(MODES, "flip", Mode(images=flipped, strength="temperature", strongest=2.0))
    settings = {"temperature": 0.0, "guided": False, "max_attempts": 1}
    pairs = sampler(mode="flip", **settings)(MODEL, rows())
    given = [{**row, "images": flipped(row["images"], None, None)} for row in rows()]
    assert rejected(pairs) == rejected(sampler(mask_threshold=0.0, **settings)(MODEL, given))
    assert [pair["images"] for pair in pairs] == [row["images"] for row in rows()]

    config = BDHSConfig(mode="flip")
    assert "bdhs/acceptance_rate" in pair_metrics([1], [0.5], [True], config)
    assert "Raise `temperature` (now 1.0)" in hint(vars(config), 1000, 100, 0)
    monkeypatch.setitem(MODES, "flip", replace(MODES["flip"], teacher_forced=True))
    assert "bdhs/acceptance_rate" not in pair_metrics([1], [0.5], [True], config)
    assert hint(vars(config), 1000, 100, 0) is None
    assert BDHSDataGenerator(config).distorts and not BDHSDataGenerator(config, online=False).distorts
