"""The tests compare with plain transformers: masking instead of dropping, `generate` with one row at a time."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny_model, tiny_processor, tiny_row
from transformers import GenerationConfig

from trl_mm.generation import Completer, Request, SamplingSettings, generating


PROCESSOR = tiny_processor()
MODEL = tiny_model(scale=8)
SIZES = [(40, 30), (30, 60), (90, 30), (56, 56), (20, 20)]


def completer(**settings):
    return Completer(PROCESSOR, SamplingSettings(**{"max_new_tokens": 6, "temperature": 0.0, **settings}))


def rows(sizes=SIZES, text_only=False):
    found = [tiny_row(seed, size=size) for seed, size in enumerate(sizes)]
    return [*found, {**tiny_row(99), "images": []}] if text_only else found


def first_logits(requests, positions):
    """Logits of the first new token as `Completer` computes them, of shape `(B, V)`."""
    writer = completer()
    prefixes = [PROCESSOR.tokenizer(r.prefix, add_special_tokens=False)["input_ids"] for r in requests]
    with generating(MODEL):
        inputs, _ = writer._partly_hidden(MODEL, requests, prefixes, positions)
        return MODEL(**inputs).logits[:, -1]


def masked_logits(request, positions):
    """The same by plain transformers: full-length prompt, one row, hidden tokens masked out of attention."""
    inputs = PROCESSOR(
        text=[request.prompt.text],
        images=[request.prompt.row["images"]],
        add_special_tokens=False,
        return_tensors="pt",
    )
    prefix = PROCESSOR.tokenizer(request.prefix, add_special_tokens=False, return_tensors="pt")["input_ids"].long()
    inputs["input_ids"] = torch.cat([inputs["input_ids"], prefix], 1)
    keep = torch.ones_like(inputs["input_ids"], dtype=torch.bool)
    keep[0, : len(request.prompt.ids)][request.prompt.is_image] = request.visible
    inputs["attention_mask"] = keep.long()
    full = torch.arange(keep.shape[1])[None]
    inputs["position_ids"] = full if positions == "original" else (keep.cumsum(-1) - 1).clamp(min=0)
    with torch.no_grad():
        return MODEL(**inputs).logits[0, -1]


@pytest.mark.parametrize("positions", ["collapsed", "original"])
@given(st.lists(st.sampled_from(SIZES), min_size=1, max_size=4), st.floats(0, 1), st.integers(0, 99), st.data())
def test_dropping_hidden_tokens_gives_the_logits_of_masking_them(positions, sizes, threshold, seed, data):
    generator = torch.Generator().manual_seed(seed)
    requests = [
        Request(
            prompt,
            data.draw(st.sampled_from(["", " There is", " There is a red circle. There"])),
            visible=torch.rand(prompt.num_image_tokens, generator=generator) >= threshold,
        )
        for prompt in completer().prompts(rows(sizes))
    ]
    expected = torch.stack([masked_logits(request, positions) for request in requests])
    torch.testing.assert_close(first_logits(requests, positions), expected, atol=2e-4, rtol=1e-4)


def test_hiding_changes_the_logits_and_so_do_positions():
    (prompt,) = completer().prompts(rows(SIZES[:1]))
    half = torch.arange(prompt.num_image_tokens) % 2 == 0
    requests = [Request(prompt, visible=visible) for visible in (half, ~half, torch.ones_like(half))]
    collapsed, original = (first_logits(requests, positions) for positions in ("collapsed", "original"))
    assert (collapsed[0] - collapsed[1]).abs().max() > 1e-3
    assert (collapsed[0] - original[0]).abs().max() > 1e-3
    torch.testing.assert_close(collapsed[2], original[2])


@pytest.mark.parametrize("hidden", [False, True])
def test_batched_greedy_completions_equal_those_of_generate_row_by_row(hidden):
    """With nothing hidden, both ways through `Completer` give what `generate` gives for a row on its own."""
    writer = completer(batch_size=4)
    prompts = writer.prompts(rows(text_only=True))
    requests = [Request(prompt, " There is") for prompt in prompts]
    if hidden:
        for request in requests:
            request.visible = torch.ones(request.prompt.num_image_tokens, dtype=torch.bool)
    prefix = PROCESSOR.tokenizer(" There is", add_special_tokens=False, return_tensors="pt")["input_ids"].long()
    expected = []
    for prompt in prompts:
        images = [prompt.row["images"]] if prompt.row["images"] else None
        inputs = PROCESSOR(text=[prompt.text], images=images, add_special_tokens=False, return_tensors="pt")
        inputs["input_ids"] = torch.cat([inputs["input_ids"], prefix], 1)
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        config = GenerationConfig(
            max_new_tokens=6,
            min_new_tokens=1,
            suppress_tokens=[PROCESSOR.image_token_id],
            pad_token_id=0,
            eos_token_id=PROCESSOR.tokenizer.eos_token_id,
        )
        ids = MODEL.generate(**inputs, generation_config=config)[0, inputs["input_ids"].shape[1] :]
        expected.append(PROCESSOR.tokenizer.decode(ids, skip_special_tokens=True))
    assert writer.complete(MODEL, requests) == expected
    assert len(set(expected)) > 1


def test_a_sample_depends_on_its_seed_and_not_on_its_batch():
    prompts = completer().prompts(rows())
    requests = [Request(prompt, " There", seed=("a", index)) for index, prompt in enumerate(prompts)]
    alone = [completer(temperature=1.0).complete(MODEL, [request])[0] for request in requests]
    together = completer(temperature=1.0).complete(MODEL, requests)
    other = completer(temperature=1.0).complete(
        MODEL, [Request(r.prompt, r.prefix, seed=("b", index)) for index, r in enumerate(requests)]
    )
    assert together == alone
    assert together != other


def test_samples_follow_the_distribution_of_the_model():
    """With a seed per request, first tokens are drawn with the model's probabilities at that temperature."""
    (prompt,) = completer().prompts(rows(SIZES[:1]))
    visible = torch.ones(prompt.num_image_tokens, dtype=torch.bool)
    logits = first_logits([Request(prompt, visible=visible)], "collapsed")[0] / 0.5
    logits[[PROCESSOR.image_token_id, PROCESSOR.tokenizer.eos_token_id]] = -torch.inf
    probabilities = logits.softmax(-1)
    top = probabilities.argmax()
    word = PROCESSOR.tokenizer.decode(top)
    writer = completer(max_new_tokens=1, temperature=0.5, batch_size=500)
    texts = writer.complete(MODEL, [Request(prompt, visible=visible, seed=(n,)) for n in range(1000)])
    share = sum(text == word for text in texts) / len(texts)
    assert abs(share - probabilities[top]) < 4 * (probabilities[top] * (1 - probabilities[top]) / 1000) ** 0.5


def test_image_tokens_are_never_sampled():
    model = tiny_model()
    with torch.no_grad():
        model.lm_head.weight[PROCESSOR.image_token_id] = 100 * model.lm_head.weight[PROCESSOR.image_token_id].sign()
    prompts = completer().prompts(rows())
    for text in completer(temperature=1.0).complete(model, [Request(prompt, seed=(1,)) for prompt in prompts]):
        assert PROCESSOR.image_token not in text


def test_rows_stop_on_their_own_and_keep_what_comes_before_the_end():
    prompts = completer().prompts(rows())
    full = completer(max_new_tokens=12).complete(MODEL, [Request(prompt) for prompt in prompts])
    marks = [text[3] for text in full]
    ended = completer(max_new_tokens=12).complete(
        MODEL, [Request(prompt) for prompt in prompts], find_end=lambda text: 4 if len(text) > 5 else None
    )
    assert ended == [text[:4] for text in full]
    assert [text[3] for text in ended] == marks


def test_generation_leaves_modes_as_they_were_and_uses_the_cache_under_checkpointing():
    model = tiny_model()
    model.gradient_checkpointing_enable()
    model.train()
    model.model.vision_tower.eval()
    before = {name: module.training for name, module in model.named_modules()}
    lengths = []
    hook = model.model.language_model.layers[0].register_forward_pre_hook(
        lambda module, args: lengths.append(args[0].shape[1])
    )
    completer(max_new_tokens=4).complete(model, [Request(prompt) for prompt in completer().prompts(rows())])
    hook.remove()
    assert {name: module.training for name, module in model.named_modules()} == before
    assert max(lengths) > 10 and min(lengths) == 1


def test_settings_of_the_model_do_not_change_what_is_sampled():
    model = tiny_model(scale=8)
    requests = [Request(prompt, seed=(1,)) for prompt in completer().prompts(rows())]
    expected = completer(temperature=1.0).complete(model, requests)
    model.generation_config.update(num_beams=2, repetition_penalty=5.0, temperature=0.1, no_repeat_ngram_size=1)
    own = model.generation_config
    assert completer(temperature=1.0).complete(model, requests) == expected
    assert model.generation_config is own


def test_models_that_cannot_hide_image_tokens_are_named():
    (prompt,) = completer().prompts(rows(SIZES[:1]))
    model = tiny_model()
    model.config.model_type = "other_vlm"
    with pytest.raises(ValueError, match="`other_vlm`.*llava_next"):
        completer().complete(model, [Request(prompt, visible=torch.zeros(prompt.num_image_tokens, dtype=torch.bool))])


def test_a_processor_without_image_token_is_refused():
    class TextOnly:
        tokenizer = PROCESSOR.tokenizer

    with pytest.raises(ValueError, match="no image token.*vision-language"):
        Completer(TextOnly())
