"""What vLLM is handed, and what becomes of what it writes: greedy, the same as with transformers."""

import pytest
import torch
from support.tiny import bare_processor, tiny_image, tiny_model, tiny_processor, tiny_row
from support.vllm_engine import FakeVLLM, Parameters

from trl_mm import BDHSConfig, BDHSSampler
from trl_mm.bdhs.guidance import find_sentence_end
from trl_mm.data.seeds import derived_seed
from trl_mm.generation import Completer, Request, SamplingSettings
from trl_mm.generation.vllm import NEVER, ROUND, VLLMModel


MODEL = tiny_model(scale=4)
END = tiny_processor().tokenizer.eos_token_id


def run_by_vllm(processor=None, embeds=False, model=MODEL):
    engine = FakeVLLM(model, processor or tiny_processor())
    return VLLMModel(engine, Parameters, model.config, [END], model if embeds else None), engine


def rows():
    made = [tiny_row(seed, size=(30 + 20 * seed, 40)) for seed in range(4)]
    made[1]["images"] = []
    made[2]["images"] = [tiny_image(5), tiny_image(6, (60, 30))]
    return made


def requests(completer, hide=None, prefixes=("", " There is")):
    made = []
    for number, prompt in enumerate(completer.prompts(rows())):
        draws = torch.rand(prompt.num_image_tokens, generator=torch.Generator().manual_seed(number))
        visible = None if hide is None else draws >= hide
        made += [Request(prompt, text, (prompt.row["row_id"], text), visible) for text in prefixes]
    return made


@pytest.mark.parametrize("processor", [tiny_processor, bare_processor])
@pytest.mark.parametrize("hide", [None, 0.5, 1.0], ids=["images", "half hidden", "all hidden"])
def test_answers_are_those_of_transformers(processor, hide):
    processor = processor()
    completer = Completer(processor, SamplingSettings(20, temperature=0.0))
    asked = requests(completer, hide)
    model, engine = run_by_vllm(processor, embeds=hide is not None)
    answers = completer.complete(model, asked)
    assert answers == completer.complete(MODEL, asked) and len(set(answers)) > 3
    assert len(engine.calls) == 1  # in one go, which the engine schedules
    for (prompt, settings), request in zip(engine.calls[0], asked, strict=True):
        assert settings.max_tokens == 20 and settings.min_tokens == 1 and settings.stop_token_ids == [END]
        assert settings.logit_bias == {processor.image_token_id: NEVER} and settings.detokenize is False
        assert settings.seed == derived_seed(*request.seed) % 2**63 and settings.temperature == 0
        given = len(processor.tokenizer(request.prefix, add_special_tokens=False)["input_ids"])
        if hide is None:
            assert prompt["prompt_token_ids"].count(processor.image_token_id) == len(request.prompt.row["images"])
            assert prompt.get("multi_modal_data", {}).get("image", []) == request.prompt.row["images"]
        else:
            assert set(prompt) == {"prompt_embeds"}
            assert prompt["prompt_embeds"].shape == (request.prompt_length + given, 32)
            assert not prompt["prompt_embeds"].requires_grad and prompt["prompt_embeds"].device.type == "cpu"


@pytest.mark.parametrize("embeds", [False, True], ids=["images", "embeddings"])
@pytest.mark.parametrize(
    "find_end", [find_sentence_end, lambda text: text.find("e") + 1 or None], ids=["sentence", "e"]
)
def test_what_ends_in_the_middle_is_written_in_rounds_and_cut_where_transformers_stops(embeds, find_end):
    completer = Completer(tiny_processor(), SamplingSettings(2 * ROUND + 5, temperature=0.0))
    asked = requests(completer, 0.5 if embeds else None)
    model, engine = run_by_vllm(embeds=embeds)
    answers = completer.complete(model, asked, find_end)
    assert answers == completer.complete(MODEL, asked, find_end)
    first, *later = engine.calls
    assert {settings.max_tokens for _, settings in first} == {ROUND} and len(later) <= 2
    assert all(settings.min_tokens == 0 for call in later for _, settings in call)
    assert all(len(call) <= len(before) for before, call in zip(engine.calls, later, strict=False))
    if len(later) == 2:
        assert {settings.max_tokens for _, settings in later[1]} == {5}
    # Each round goes on from all that was written, with a seed of its own
    length = "prompt_embeds" if embeds else "prompt_token_ids"
    if later:
        assert min(len(prompt[length]) for prompt, _ in later[0]) > ROUND
        assert not {settings.seed for _, settings in first} & {settings.seed for _, settings in later[0]}


def test_an_end_at_once_needs_one_round():
    completer = Completer(tiny_processor(), SamplingSettings(64, temperature=1.0, top_p=0.9))
    model, engine = run_by_vllm()
    asked = requests(completer)
    answers = completer.complete(model, asked, lambda text: 1 if text else None)
    assert {len(answer) for answer in answers} == {1} and len(engine.calls) == 1
    assert {(settings.temperature, settings.top_p) for _, settings in engine.calls[0]} == {(1.0, 0.9)}
    assert len({settings.seed for _, settings in engine.calls[0]}) == len(asked)


@pytest.mark.parametrize("settings", [{}, {"guided": False}, {"mode": "noise", "noise_steps": 100}])
def test_pairs_are_those_of_transformers(settings):
    config = BDHSConfig(
        similarity="lexical",
        temperature=0.0,
        max_sentence_tokens=20,
        max_answer_tokens=20,
        mask_threshold=0.7,
        **settings,
    )
    model, engine = run_by_vllm(embeds=config.mode == "attention")
    sampler, sft = BDHSSampler(config, tiny_processor()), rows()
    assert sampler(model, sft) == sampler(MODEL, sft)
    prompts = [prompt for call in engine.calls for prompt, _ in call]
    assert all(("prompt_embeds" in prompt) == (config.mode == "attention") for prompt in prompts)


def test_what_vllm_cannot_do_is_refused():
    completer = Completer(tiny_processor())
    hidden = requests(completer, 0.5)
    with pytest.raises(ValueError, match="`positions='original'` does not work with vLLM"):
        completer.complete(run_by_vllm(embeds=True)[0], hidden, positions="original")
    with pytest.raises(ValueError, match="Hidden image tokens go to vLLM as embeddings"):
        completer.complete(run_by_vllm()[0], hidden)
    with pytest.raises(ValueError, match="vLLM cannot predict .* `use_vllm=False`"):
        completer.predict(run_by_vllm()[0], hidden)
    assert completer.complete(run_by_vllm()[0], []) == []
