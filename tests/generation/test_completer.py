"""The tests compare with plain transformers: `generate` with one row at a time."""

from copy import copy
from types import SimpleNamespace

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from support.families import FAMILIES, byte_fallback_tokenizer, family, llava
from support.plain_generate import generated
from support.tiny import counted_images, tiny_model, tiny_processor, tiny_row

from trl_mm.generation import Completer, Request, SamplingSettings
from trl_mm.tokens.chat import text_ids


PROCESSOR = tiny_processor()
MODEL = tiny_model(scale=8)
SIZES = [(40, 30), (30, 60), (90, 30), (56, 56), (20, 20)]


def completer(**given):
    return Completer(PROCESSOR, SamplingSettings(**{"max_new_tokens": 6, "temperature": 0.0, **given}))


def rows(sizes=SIZES, text_only=False):
    found = [tiny_row(seed, size=size) for seed, size in enumerate(sizes)]
    return [*found, {**tiny_row(99), "images": []}] if text_only else found


@pytest.mark.parametrize("name", ["llava_next", "llava_next, masked", "llava_onevision", "qwen2_5_vl"])
def test_batched_greedy_completions_equal_those_of_generate_row_by_row(name):
    """Inputs as embeddings, with a mask that hides nothing, and as the processor makes them."""
    model, processor = family(name.split(",")[0])
    writer = Completer(processor, SamplingSettings(6, temperature=0.0, batch_size=4))
    prompts = writer.prompts(rows(text_only=True))
    requests = [Request(prompt, " There is") for prompt in prompts]
    if "masked" in name:
        for request in requests:
            request.visible = torch.ones(request.prompt.num_image_tokens, dtype=torch.bool)
    expected = [generated(model, processor, prompt, " There is") for prompt in prompts]
    assert writer.complete(model, requests) == expected
    assert len(set(expected)) > 1


@pytest.mark.parametrize("batch_size", [2, 7, 100])
def test_requests_of_one_prompt_share_its_image_features(batch_size):
    writer = completer(batch_size=batch_size)  # 2 is less than the requests of a prompt
    prompts = writer.prompts(rows(text_only=True))
    requests = [Request(prompt, prefix) for prompt in prompts for prefix in ("", " There is", " A dog. There")]
    with counted_images(MODEL) as encoded_images:
        texts = writer.complete(MODEL, requests)
    assert sum(encoded_images) == len(SIZES)
    assert texts == [generated(MODEL, PROCESSOR, request.prompt, request.prefix) for request in requests]


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


@pytest.mark.parametrize("name", ["llava_next", "qwen2_5_vl", "gemma3"])
def test_what_is_sampled_depends_on_no_other_request_and_no_bound_of_a_batch(name):
    """Requests alone, with others of their prompt, and in batches of any size."""
    model, processor = family(name)
    sampled = {"max_new_tokens": 5, "temperature": 1.0}
    prefixes = ["", " There is", " A dog. There is a red", " Yes."]
    prompts = Completer(processor).prompts(rows(SIZES[:3], text_only=True))
    requests = [Request(prompt, text, seed=(text, index)) for index, prompt in enumerate(prompts) for text in prefixes]
    alone = [Completer(processor, SamplingSettings(**sampled)).complete(model, [request])[0] for request in requests]
    assert len(set(alone)) > len(alone) // 2
    for bounds in [{}, {"batch_size": 3}, {"max_batch_tokens": 1}, {"max_batch_tokens": 150}]:
        writer = Completer(processor, SamplingSettings(**sampled, **bounds))
        assert writer.complete(model, requests) == alone
        assert writer.complete(model, requests[::-1]) == alone[::-1]


@pytest.mark.parametrize("shared", [True, False])
def test_a_batch_holds_no_more_tokens_than_allowed(shared):
    requests = [Request(prompt, " There is") for prompt in completer().prompts(rows()) for _ in range(1 + shared)]
    rows_and_widths = []

    def look(module, args, kwargs):
        mask = kwargs["attention_mask"]
        rows_and_widths.append(
            (len(args[0] if args else kwargs["inputs_embeds"]), 0 if mask is None else mask.shape[-1])
        )

    longest = max(len(request.prompt.ids) for request in requests) + 2 + 6
    layer = MODEL.model.language_model.layers[0]
    hook = layer.register_forward_pre_hook(look, with_kwargs=True)
    try:
        completer(max_batch_tokens=5 * longest).complete(MODEL, requests)
    finally:
        hook.remove()
    assert max(count for count, _ in rows_and_widths) >= 3
    assert all(count * width <= 5 * longest for count, width in rows_and_widths)
    assert any(width for _, width in rows_and_widths)


PROCESSORS = {"byte level": PROCESSOR, "byte fallback": llava(tokens=byte_fallback_tokenizer())[1]}
TEXT = st.text(alphabet=st.sampled_from("ab .\n圆。😀éไม้")) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\ufffd▁"), max_size=12
)


@pytest.mark.parametrize("name", PROCESSORS)
@given(given=TEXT, new=TEXT, cut_off=st.integers(0, 3))
def test_new_text_begins_and_ends_between_characters(name, given, new, cut_off):
    """Whatever the tokens: with all its spaces, and whole characters only."""
    writer = Completer(PROCESSORS[name])
    prompt = SimpleNamespace(ids=torch.tensor(text_ids(writer.processor, "圆的 ASSISTANT:")))
    decode = writer.tokenizer.decode
    whole = text_ids(writer.processor, given + "。" + new)
    starts = [k for k in range(len(whole)) if decode(whole[:k]) == given + "。"]
    assume(starts)
    ids = whole[starts[-1] :]
    context = writer._context(prompt, whole[: starts[-1]])
    assert writer._text(context, ids) == new
    cut_text = writer._text(context, ids[: len(ids) - cut_off])
    assert new.startswith(cut_text) and len(new) - len(cut_text) <= 3 + cut_off


@pytest.mark.parametrize("name", PROCESSORS)
def test_bytes_that_are_no_character_are_left_out(name):
    writer = Completer(PROCESSORS[name])
    circle = text_ids(writer.processor, "圆")[-3:]  # one token for each byte
    words = text_ids(writer.processor, " There is")
    context = writer._context(SimpleNamespace(ids=torch.tensor(words)), [])
    text = writer._text(context, [*circle[:2], *words, *circle, writer.tokenizer.eos_token_id])
    assert text.strip() == "There is圆"


def test_samples_follow_the_distribution_of_the_model():
    """With a seed per request, first tokens are drawn with the model's probabilities at that temperature."""
    (prompt,) = completer().prompts(rows(SIZES[:1]))
    inputs = PROCESSOR(
        text=[prompt.text], images=[prompt.row["images"]], return_tensors="pt", add_special_tokens=False
    )
    with torch.no_grad():
        logits = MODEL(**inputs).logits[0, -1] / 0.5
    logits[[PROCESSOR.image_token_id, PROCESSOR.tokenizer.eos_token_id]] = -torch.inf
    probabilities = logits.softmax(-1)
    top = probabilities.argmax()
    word = PROCESSOR.tokenizer.decode(top)
    writer = completer(max_new_tokens=1, temperature=0.5, batch_size=500)
    texts = writer.complete(MODEL, [Request(prompt, seed=(n,)) for n in range(1000)])
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


def test_a_processor_without_image_token_is_refused():
    class TextOnly:
        tokenizer = PROCESSOR.tokenizer

    with pytest.raises(ValueError, match="no image token.*vision-language"):
        Completer(TextOnly())


def test_a_tokenizer_that_does_not_know_the_image_token_is_refused():
    processor = copy(family("llava")[1])
    processor.image_token = "<picture>"  # the processor of LLaVA then takes the first piece of it for the image token
    processor.image_token_id = processor.tokenizer("<picture>")["input_ids"][0]
    with pytest.raises(ValueError, match="no image token that its tokenizer knows.*vision-language"):
        Completer(processor)


@pytest.mark.parametrize("name", FAMILIES)
def test_processors_of_all_families_have_an_image_token(name):
    Completer(family(name)[1])
