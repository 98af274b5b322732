"""Completions with a static cache beside those with one that grows, and what is said to transformers."""

import warnings
from unittest import mock

import pytest
import torch
from peft import LoraConfig, get_peft_model
from support.families import FAMILIES, family
from support.tiny import tiny_model, tiny_processor, tiny_row
from transformers import CompileConfig, GenerationConfig, StaticCache

from trl_mm.bdhs import config
from trl_mm.generation import Completer, Request, SamplingSettings, prefill, static_cache
from trl_mm.generation.answers import sample_answers
from trl_mm.generation.merged_adapters import merged_when_generating
from trl_mm.generation.static_cache import StaticCaches, check_static_cache, rounded_up
from trl_mm.scripts import eval as eval_script


SIZES = [(40, 30), (30, 60), (90, 30)]
NO_STATIC = {name for name in FAMILIES if not getattr(family(name)[0], "_can_compile_fullgraph", False)}


def requests(completer, prefixes=("", " There is", " There is a red circle."), hide=0):
    prompts = completer.prompts([tiny_row(seed, size=size) for seed, size in enumerate(SIZES)])
    made = []
    for prompt in prompts:
        generator = torch.Generator().manual_seed(len(made))
        visible = torch.rand(prompt.num_image_tokens, generator=generator) >= hide if hide else None
        made += [Request(prompt, prefix, (prompt.row["row_id"], prefix), visible) for prefix in prefixes]
    return made


def completed(model, processor, cache, asked=None, **settings):
    completer = Completer(processor, SamplingSettings(8, cache_implementation=cache, batch_size=4, **settings))
    return completer.complete(model, requests(completer, **(asked or {})), find_end=settings.pop("find_end", None))


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in NO_STATIC])
@pytest.mark.parametrize("prefixes", [("", " There is"), (" A dog",)], ids=["shared prompts", "own prompts"])
def test_families_answer_alike(name, prefixes):
    model, processor = family(name)
    asked = {"prefixes": prefixes}
    assert completed(model, processor, "static", asked) == completed(model, processor, "dynamic", asked)


@pytest.mark.parametrize("name", sorted(NO_STATIC))
def test_models_that_cannot_are_refused(name):
    model, processor = family(name)
    with pytest.raises(ValueError, match="`cache_implementation='static'` does not work for a `.*` model"):
        completed(model, processor, "static")


@pytest.mark.parametrize("hide", [0.5, 0.99])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_hidden_tokens_are_answered_alike(hide, temperature):
    model, processor, asked = tiny_model(scale=4), tiny_processor(), {"hide": hide}
    found = completed(model, processor, "static", asked, temperature=temperature)
    assert found == completed(model, processor, "dynamic", asked, temperature=temperature)
    assert len(set(found)) > 2


def test_completions_that_end_early_end_alike():
    model, processor = tiny_model(scale=4), tiny_processor()
    completers = [
        Completer(processor, SamplingSettings(12, cache_implementation=cache)) for cache in static_cache.CACHES
    ]
    found = [c.complete(model, requests(c), lambda text: 3 if len(text) > 3 else None) for c in completers]
    assert found[0] == found[1] and {len(text) for text in found[0]} == {3}


@pytest.mark.parametrize("name", ["llava_next", "qwen2_vl"])
def test_several_answers_to_a_prompt_are_alike(name):
    model, processor = family(name)
    rows, seeds = [tiny_row(seed, size=size) for seed, size in enumerate(SIZES)], [(seed,) for seed in range(3)]
    settings = {"max_new_tokens": 6, "do_sample": True, "pad_token_id": 0}
    settings["eos_token_id"] = processor.tokenizer.eos_token_id
    answers = []
    for cache in (None, "dynamic", "static"):
        own = GenerationConfig(cache_implementation=cache, **settings)
        with mock.patch.object(type(model), "generate", autospec=True, side_effect=type(model).generate) as generate:
            answers.append(sample_answers(model, processor, rows, own, seeds))
        held = generate.call_args.kwargs[prefill.CACHE]
        assert isinstance(held, StaticCache) == (cache == "static")
    assert answers[0] == answers[1] == answers[2]


@pytest.mark.parametrize("compiles", [True, False])
@pytest.mark.parametrize("prefixes", [("", " A"), ("",)], ids=["shared prompts", "own prompts"])
def test_transformers_is_told_to_compile_or_not(compiles, prefixes):
    model, processor = tiny_model(scale=4), tiny_processor()
    valid, seen = model._valid_auto_compile_criteria, []

    def watched(model_kwargs, generation_config):
        seen.append((generation_config.disable_compile, model_kwargs[prefill.CACHE]))
        return valid(model_kwargs, generation_config)

    with mock.patch.object(model, "_valid_auto_compile_criteria", watched):
        completed(model, processor, "static", {"prefixes": prefixes}, compile_generation=compiles)
    decoded = [disabled for disabled, cache in seen if isinstance(cache, StaticCache)]
    assert decoded and set(decoded) == {not compiles}
    assert all(cache.is_compileable for _, cache in seen if isinstance(cache, StaticCache))


def test_decoding_is_compiled_as_one_graph_for_all_batches():
    model = get_peft_model(tiny_model(scale=4), LoraConfig(target_modules=["q_proj"]))
    torch.nn.init.normal_(model.get_parameter(next(n for n, _ in model.named_parameters() if "lora_B" in n)), std=0.2)
    processor, graphs = tiny_processor(), []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    compiling = CompileConfig(fullgraph=True, mode=None, backend=backend)
    compiling._compile_all_devices = True  # what transformers does on GPUs

    def compiled(*args):
        settings = config_of(*args)
        settings.compile_config = compiling
        return settings

    config_of, answers = Completer._generation_config, []
    torch._dynamo.reset()
    for cache in static_cache.CACHES:
        completer = Completer(processor, SamplingSettings(4, cache_implementation=cache, batch_size=3))
        asked = requests(completer, ("", " There is"))
        with merged_when_generating(model, True), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of what transformers itself reads while it is traced
            if cache == "static":
                with mock.patch.object(Completer, "_generation_config", compiled):
                    answers.append(completer.complete(model, asked))
            else:
                answers.append(completer.complete(model, asked))
    torch._dynamo.reset()
    assert answers[0] == answers[1]
    assert 1 <= len(graphs) <= 2  # the second one for batches of any size


def test_a_cache_is_handed_out_again_for_the_same_shape():
    caches = StaticCaches(tiny_model(), 10)
    mask, shape = torch.ones(2, 50, dtype=torch.long), (2, 2, 40, 8)
    keys = torch.randn(shape)
    first = caches.empty(mask)
    first.update(keys, keys, 0)
    place = first.layers[0].keys.data_ptr()
    again = caches.empty(torch.ones(2, 54, dtype=torch.long))
    assert again is first and again.get_seq_length() == 0 and not again.layers[0].keys.any()
    again.update(keys, keys, 0)
    assert again.layers[0].keys.data_ptr() == place
    assert caches.empty(torch.ones(3, 50, dtype=torch.long)) is not first
    assert caches.empty(torch.ones(3, 55, dtype=torch.long)).layers[0].max_cache_len == 128


@pytest.mark.parametrize("length", [1, 63, 64, 65, 200, 1023, 1024, 1025, 3000, 2**15 + 1])
def test_lengths_are_rounded_up_to_few(length):
    found = rounded_up(length)
    assert length <= found <= max(length + 63, length * 9 / 8)
    assert found % 64 == 0 and len({rounded_up(number) for number in range(1, 4097)}) <= 40


def test_other_caches_are_refused_with_the_reason():
    with pytest.raises(ValueError, match="must be one of dynamic, static, got 'quantized'. .* hold no prompt"):
        SamplingSettings(cache_implementation="quantized")
    with pytest.raises(ValueError, match="`cache_implementation` must be one of dynamic, static, got 'offloaded'"):
        config.BDHSConfig(cache_implementation="offloaded")
    with pytest.raises(ValueError, match="`cache_implementation` must be one of dynamic, static, got 'x'"):
        eval_script.AskingArguments(cache_implementation="x")
    assert config.CACHES == eval_script.CACHES == static_cache.CACHES
    check_static_cache(tiny_model())


def test_speed_does_not_stand_in_manifests():
    fast = config.BDHSConfig(cache_implementation="static", compile_generation=False)
    assert fast.as_settings() == config.BDHSConfig().as_settings()
