"""Inputs beside plain transformers: masking instead of dropping, one row at a time."""

from unittest import mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.tiny import bare_processor, tiny_model, tiny_processor, tiny_row
from trl import prepare_multimodal_messages

from trl_mm.generation import Completer, Request, generating
from trl_mm.generation.inputs import model_inputs


PROCESSOR = tiny_processor()
MODEL = tiny_model(scale=8)
SIZES = [(40, 30), (30, 60), (90, 30), (56, 56), (20, 20)]


def prompts(sizes=SIZES):
    return Completer(PROCESSOR).prompts([tiny_row(seed, size=size) for seed, size in enumerate(sizes)])


def first_logits(requests, positions):
    """Logits of the first new token as they are computed with these inputs, of shape `(B, V)`."""
    prefixes = [PROCESSOR.tokenizer(r.prefix, add_special_tokens=False)["input_ids"] for r in requests]
    with generating(MODEL):
        inputs = model_inputs(MODEL, PROCESSOR, requests, prefixes, positions)
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
        for prompt in prompts(sizes)
    ]
    expected = torch.stack([masked_logits(request, positions) for request in requests])
    torch.testing.assert_close(first_logits(requests, positions), expected, atol=2e-4, rtol=1e-4)


def test_hiding_changes_the_logits_and_so_do_positions():
    (prompt,) = prompts(SIZES[:1])
    half = torch.arange(prompt.num_image_tokens) % 2 == 0
    requests = [Request(prompt, visible=visible) for visible in (half, ~half, torch.ones_like(half))]
    collapsed, original = (first_logits(requests, positions) for positions in ("collapsed", "original"))
    assert (collapsed[0] - collapsed[1]).abs().max() > 1e-3
    assert (collapsed[0] - original[0]).abs().max() > 1e-3
    torch.testing.assert_close(collapsed[2], original[2])


def test_a_prompt_that_shows_other_images_is_encoded_anew():
    first, second = prompts(SIZES[:1] * 2)
    everything = torch.ones(first.num_image_tokens, dtype=torch.bool)
    first.kept = everything

    def embeds(prompt):
        with generating(MODEL):
            return model_inputs(MODEL, PROCESSOR, [Request(prompt, visible=everything)], [[]])["inputs_embeds"]

    before, shown = embeds(first), embeds(first.showing(second.row["images"]))
    assert torch.equal(shown, embeds(second)) and not torch.equal(shown, before)
    assert first.row["images"] != second.row["images"], "the row itself is left alone"


def test_only_features_that_are_shown_are_kept_and_computed_once():
    kept, plain = prompts(SIZES[:1] * 2)
    plain.row["images"] = kept.row["images"]
    kept.kept = torch.arange(kept.num_image_tokens) % 3 != 1
    shows = [torch.arange(kept.num_image_tokens) % 3 == rest for rest in (0, 2)]
    with mock.patch.object(MODEL, "get_image_features", wraps=MODEL.get_image_features) as encode, generating(MODEL):
        found = [model_inputs(MODEL, PROCESSOR, [Request(kept, visible=show)], [[]]) for show in shows]
        assert encode.call_count == 1 and len(kept.features) == int(kept.kept.sum())
        expected = [model_inputs(MODEL, PROCESSOR, [Request(plain, visible=show)], [[]]) for show in shows]
    assert encode.call_count == 3 and plain.features is None
    for ours, other in zip(found, expected, strict=True):
        assert torch.equal(ours["inputs_embeds"], other["inputs_embeds"])


def test_models_that_cannot_hide_image_tokens_are_named():
    (prompt,) = prompts(SIZES[:1])
    model = tiny_model()
    model.config.model_type = "other_vlm"
    with pytest.raises(ValueError, match="`other_vlm`.*llava_next"):
        model_inputs(model, PROCESSOR, [Request(prompt, visible=torch.zeros(prompt.num_image_tokens).bool())], [[]])


def test_prompts_are_read_as_transformers_reads_them():
    """With a chat template that leaves the BOS token out."""
    processor = bare_processor()
    rows = [*(tiny_row(seed, size=size) for seed, size in enumerate(SIZES)), {**tiny_row(9), "images": []}]
    inputs = model_inputs(MODEL, processor, [Request(p) for p in Completer(processor).prompts(rows)], [[]] * len(rows))
    for row, ids, mask in zip(rows, inputs["input_ids"], inputs["attention_mask"], strict=True):
        plain = processor.apply_chat_template(
            prepare_multimodal_messages(row["prompt"], images=row["images"]),
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )
        assert ids[mask.bool()].tolist() == plain["input_ids"][0].tolist()
        assert plain["input_ids"][0, 0] == processor.tokenizer.bos_token_id
