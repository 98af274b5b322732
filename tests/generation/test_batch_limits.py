"""Batches as large as memory allows: found by trial, halved when it ends, and of no influence on what is answered."""

import logging
from types import SimpleNamespace
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.families import FAMILIES, family
from support.tiny import tiny_model, tiny_processor, tiny_row

from trl_mm import BDHSConfig, BDHSSampler
from trl_mm.generation import Completer, Request, SamplingSettings, batch_limits
from trl_mm.generation.batch_limits import MOST, BatchLimits, fits, in_batches, largest
from trl_mm.scripts.eval import AskingArguments
from trl_mm.scripts.eval import make_parser as eval_parser


MODEL, PROCESSOR = tiny_model(scale=4), tiny_processor()
SIZES = [(40, 30), (30, 60), (90, 30)]


class Memory:
    """A memory of so many tokens, in which `generate` of a model has to fit."""

    def __init__(self, model, tokens):
        self.model, self.tokens, self.refused, self.held = model, tokens, 0, []

    def generate(self, **inputs):
        mask, new = inputs["attention_mask"], inputs["generation_config"].max_new_tokens
        needed = len(mask) * (mask.shape[1] + new)
        if needed > self.tokens:
            self.refused += 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        self.held.append(needed)
        return type(self.model).generate(self.model, **inputs)

    def __enter__(self):
        self.patch = mock.patch.object(self.model, "generate", self.generate)
        self.patch.start()
        return self

    def __exit__(self, *error):
        self.patch.stop()


def completer(cache="dynamic", batch_size="auto"):
    return Completer(PROCESSOR, SamplingSettings(6, batch_size=batch_size, cache_implementation=cache))


def requests(made, prefixes=("", " There", " There is a red circle."), count=4):
    prompts = made.prompts([tiny_row(seed, size=SIZES[seed % 3]) for seed in range(count)])
    return [Request(prompt, text, (prompt.row["row_id"], text)) for prompt in prompts for text in prefixes]


@pytest.mark.parametrize("cache", ["dynamic", "static"])
@pytest.mark.parametrize("prefixes", [("", " There", " There is a red circle."), (" A",)], ids=["shared", "own"])
def test_a_batch_that_does_not_fit_is_completed_in_smaller_ones(cache, prefixes, caplog):
    made = completer(cache)
    asked = requests(made, prefixes)
    expected = made.complete(MODEL, asked)
    longest = max(len(request.prompt.ids) for request in asked) + 6 + 10
    with Memory(MODEL, 3 * longest) as memory, caplog.at_level(logging.WARNING, logger="trl_mm"):
        assert made.complete(MODEL, asked) == expected
        assert memory.refused and "Memory is not enough for" in caplog.text
        refused = memory.refused
        assert made.complete(MODEL, asked) == expected
        assert memory.refused == refused  # what was too much once is not tried again


@settings(max_examples=15, deadline=None)
@given(st.integers(70, 800), st.lists(st.sampled_from(["", " A", " There is a red circle."]), min_size=1, max_size=3))
def test_answers_do_not_depend_on_memory(tokens, prefixes):
    made = completer()
    asked = requests(made, tuple(dict.fromkeys(prefixes)), 3)
    expected = completer(batch_size=1).complete(MODEL, asked)
    alone = max(len(request.prompt.ids) for request in asked) + 6 + 12
    with Memory(MODEL, alone + tokens):
        assert made.complete(MODEL, asked) == expected


@pytest.mark.parametrize("batch_size", ["auto", 32])
def test_what_does_not_fit_alone_is_an_error_and_so_is_a_batch_that_was_set(batch_size):
    made = completer(batch_size=batch_size)
    asked = requests(made)
    with Memory(MODEL, 10 if batch_size == "auto" else 100), pytest.raises(torch.OutOfMemoryError):
        made.complete(MODEL, asked)
    assert (made.limits.max_batch_tokens == 16384) == (batch_size == 32)


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    made = completer()
    with mock.patch.object(MODEL, "generate", side_effect=RuntimeError("shapes differ")) as generate:
        with pytest.raises(RuntimeError, match="shapes differ"):
            made.complete(MODEL, requests(made))
    assert generate.call_count == 1


def test_what_is_completed_already_is_not_completed_again():
    lengths, seen, fails = [(10, 2)] * 8, [], [True]
    limits = BatchLimits(SamplingSettings(batch_size="auto", max_batch_tokens=48))

    def complete(batch):
        (first, *others) = [index for group in batch for index in group]
        seen.append([first, *others])
        yield [first], [str(first)]
        if first == 4 and fails.pop():
            raise torch.OutOfMemoryError("CUDA out of memory. ")
        yield others, [str(index) for index in others]

    let_go = mock.Mock()
    texts = in_batches([[index] for index in range(8)], lengths, limits, complete, let_go)
    assert texts == [str(index) for index in range(8)] and let_go.call_count == 1
    assert seen == [[0, 1, 2, 3], [4, 5, 6, 7], [5, 6], [7]]


def test_predictions_do_not_depend_on_memory():
    made = completer()
    asked = requests(made, ("",))
    expected, predict, rows = made.predict(MODEL, asked), made._predict, []

    def bounded(model, batch, *args):
        rows.append(len(batch))
        if len(batch) > 2:
            raise RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)")
        return predict(model, batch, *args)

    with mock.patch.object(made, "_predict", bounded):
        assert made.predict(MODEL, asked) == expected
    assert rows == [4, 2, 2]


@pytest.mark.parametrize("most", [0, 1, 2, 5, 8, 511, 512, 10_000])
def test_the_largest_batch_is_found_by_doubling(most):
    tried = []
    found = largest(lambda count: tried.append(count) or count <= most)
    assert found == (0 if most == 0 else min(MOST, 2 ** (most.bit_length() - 1)))
    assert max(tried) <= MOST and tried == [2**power for power in range(len(tried))]


def test_the_trial_is_made_once_and_not_on_cpus(monkeypatch, caplog):
    tried = []

    def fits(model, processor, request, length, count, positions):
        tried.append((request, length, count, positions))
        return count <= 3

    monkeypatch.setattr(batch_limits, "fits", fits)
    limits = BatchLimits(SamplingSettings(batch_size="auto"))
    cpu, gpu = (SimpleNamespace(device=torch.device(name)) for name in ("cpu", "meta"))
    limits.try_out(cpu, None, "request", 100)
    assert not tried and (limits.batch_size, limits.max_batch_tokens) == (32, 16384)
    with caplog.at_level(logging.INFO, logger="trl_mm"):
        limits.try_out(gpu, None, "request", 100, "original")
        limits.try_out(gpu, None, "another", 900)
    assert tried == [("request", 100, count, "original") for count in (1, 2, 4)]
    assert (limits.batch_size, limits.max_batch_tokens) == (MOST, 200)
    assert "2 completions of 100 tokens fit into memory" in caplog.text
    given = BatchLimits(SamplingSettings(batch_size=7))
    given.try_out(gpu, None, "request", 100)
    assert given.batch_size == 7 and len(tried) == 3 and not given.halve(7, 10)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_trial_fills_memory_as_the_completion_would(name):
    model, processor = family(name)
    request = Request(Completer(processor).prompts([tiny_row(0)])[0])
    length = len(request.prompt.ids) + 9
    with Memory(model, 3 * (length + 8)) as memory:  # a processor may add a token or two
        found = [fits(model, processor, request, length, count, "collapsed") for count in (1, 3, 4)]
    assert found == [True, True, False]
    assert [held >= count * (length + 1) for held, count in zip(memory.held, (1, 3), strict=True)] == [True, True]


def test_a_trial_hides_what_the_request_hides():
    prompt = completer().prompts([tiny_row(0)])[0]
    request = Request(prompt, visible=torch.arange(prompt.num_image_tokens) < 3)
    with Memory(MODEL, 10_000) as memory:
        assert fits(MODEL, PROCESSOR, request, request.prompt_length + 5, 2, "original")
    assert memory.held == [2 * (request.prompt_length + 5 + 1)]


def test_pairs_are_those_of_any_batch():
    rows = [tiny_row(seed) for seed in range(4)]
    fast = {"similarity": "lexical", "max_sentence_tokens": 6, "max_answer_tokens": 8}
    pairs = []
    for size in (1, "auto"):
        pairs.append(BDHSSampler(BDHSConfig(batch_size=size, **fast), PROCESSOR)(MODEL, rows))
    assert [pair["rejected"] for pair in pairs[0]] == [pair["rejected"] for pair in pairs[1]]


@pytest.mark.parametrize("value", ["large", "", "8x"])
def test_a_word_that_is_no_setting_is_refused(value):
    for config in (SamplingSettings, BDHSConfig, AskingArguments):
        with pytest.raises(ValueError, match="`batch_size` must be a whole number"):
            config(batch_size=value)
        with pytest.raises(ValueError, match="'auto'"):  # the cure
            config(batch_size=value)
    with pytest.raises(ValueError, match="`max_batch_tokens` must be a whole number, got 'auto'"):
        BDHSConfig(max_batch_tokens="auto")


@pytest.mark.parametrize(("given", "read"), [("auto", "auto"), ("16", 16)])
def test_flags_and_recipes_may_say_either(given, read, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"output_dir: there\nbatch_size: {given}\n")
    for flags in (["--output_dir", "there", "--batch_size", given], ["--config", str(recipe)]):
        *_, asking, _ = eval_parser().parse_args_and_config(flags, fail_with_unknown_args=True)
        assert asking.batch_size == read
