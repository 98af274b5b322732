from itertools import accumulate
from unittest import mock

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from support.families import byte_fallback_tokenizer, llava
from support.tiny import counted_images, tiny_model, tiny_processor, tiny_row

from trl_mm import BDHSConfig, BDHSSampler
from trl_mm.bdhs.config import CACHES
from trl_mm.bdhs.guidance import split_sentences
from trl_mm.bdhs.sampler import FEATURES_PER_TOKEN, as_pair
from trl_mm.generation import Completer


PROCESSOR = tiny_processor()
MODEL = tiny_model(scale=5)
FALLBACK = llava(tokens=byte_fallback_tokenizer())
FAST = {"similarity": "lexical", "max_sentence_tokens": 6, "max_answer_tokens": 8}


def sampler(**settings):
    return BDHSSampler(BDHSConfig(**{**FAST, **settings}), PROCESSOR)


def rows(count=4):
    return [tiny_row(seed) for seed in range(count)]


def rejected(pairs):
    return [pair["rejected"][0]["content"] for pair in pairs]


def completions(made, texts):
    """Let the model write the given texts, and record what it was asked."""
    asked = []

    def complete(model, requests, find_end=None, positions="collapsed"):
        asked.append(requests)
        return [texts(len(asked), request) for request in requests]

    return (
        asked,
        mock.patch.object(made.sentences, "complete", complete),
        mock.patch.object(made.answers, "complete", complete),
    )


def test_rows_come_back_in_order_with_rejected_and_provenance():
    sft = rows()
    pairs = sampler()(MODEL, sft)
    assert [pair["row_id"] for pair in pairs] == [row["row_id"] for row in sft]
    for pair, row in zip(pairs, sft, strict=True):
        assert {name: pair[name] for name in row} == row
        assert pair["rejected"][0]["role"] == "assistant" and pair["rejected"][0]["content"]
        assert pair["rejected"] != pair["chosen"]
        assert pair["bdhs_guided"] and pair["bdhs_attempts"] == 1 and pair["bdhs_similarity"] < 0.97


@pytest.mark.parametrize("mode", ["attention", "povid"])
@pytest.mark.parametrize("space", [" ", "\n", ""])
def test_an_answer_that_the_prompt_begins_goes_on_as_the_chosen_one(mode, space):
    begun = {"role": "assistant", "content": "There is a dog."}
    sft = [{**row, "prompt": [*row["prompt"], begun]} for row in rows(2)]
    sft = [{**row, "chosen": [{**begun, "content": f"{space}There is a red circle."}]} for row in sft]
    for text in rejected(sampler(mode=mode)(MODEL, sft)):
        assert text.strip() and text[: len(text) - len(text.lstrip())] == space


def test_equal_seeds_give_equal_pairs_whatever_the_batch():
    together = rejected(sampler(batch_size=3)(MODEL, rows()))
    alone = [rejected(sampler()(MODEL, [row]))[0] for row in rows()]
    assert together == alone == rejected(sampler()(MODEL, rows()))
    assert together != rejected(sampler(seed=1)(MODEL, rows()))
    assert together != rejected(sampler()(MODEL, rows(), 7))


@pytest.mark.parametrize("settings", [{"temperature": 0.0}, {"guided": False, "mask_threshold": 0.5}])
def test_a_static_cache_changes_no_pair(settings):
    found, expected = (sampler(cache_implementation=cache, **settings)(MODEL, rows()) for cache in CACHES)
    assert rejected(found) == rejected(expected)


def test_each_sentence_is_completed_from_the_original_earlier_ones():
    """Eq. 7: (masked image, prompt, original earlier sentences, first part) -> rest; joined, the answer."""
    made = sampler()
    asked, *patches = completions(made, lambda call, request: " CHANGED.")
    with patches[0], patches[1]:
        (pair,) = made(MODEL, [tiny_row(answer="There is a dog.\n\nIt is 3.5 cm tall. Good")])
    requests = asked[0]
    assert len(requests) == 3
    originals = [" There is a dog.\n\n", "It is 3.5 cm tall. ", "Good"]
    for index, request in enumerate(requests):
        earlier, sentence = "".join(originals[:index]), originals[index]
        assert (earlier + sentence).startswith(request.prefix)
        assert request.prefix.startswith(earlier.rstrip(" "))  # with its ends of lines
        assert request.prefix == request.prefix.rstrip(" ")
        assert request.visible is requests[0].visible  # one mask per attempt, shared by all sentences
    answer = rejected([pair])[0]
    assert answer.count("CHANGED.") == 3 and ".\n\n" in answer


def test_attempts_follow_algorithm_1():
    """Too similar answers are made again with new masks and cuts; the last attempt is unguided and kept unchecked."""
    made = sampler(max_attempts=3, mask_threshold=0.5, similarity_threshold=0.9)
    made.similarity = lambda answers, chosen: [1.0 if "same" in answer else 0.1 for answer in answers]

    def texts(call, request):
        return (
            " same."
            if request.prompt.row["row_id"] == "0" or (call == 1 and request.prompt.row["row_id"] == "1")
            else " new."
        )

    asked, *patches = completions(made, texts)
    with patches[0], patches[1]:
        pairs = made(MODEL, rows(3))
    assert [pair["bdhs_attempts"] for pair in pairs] == [3, 2, 1]
    assert [pair["bdhs_guided"] for pair in pairs] == [False, True, True]
    assert [{request.prompt.row["row_id"] for request in call} for call in asked] == [
        {"0", "1", "2"},
        {"0", "1"},
        {"0"},
    ]
    unguided = asked[2][0]
    assert unguided.prefix == "" and rejected(pairs)[0] == "same." and pairs[0]["bdhs_similarity"] == 1.0
    masks = [next(r.visible for r in call if r.prompt.row["row_id"] == "0") for call in asked]
    assert not torch.equal(masks[0], masks[1]) and not torch.equal(masks[1], masks[2])


def test_white_space_is_made_again_and_never_kept_as_an_answer():
    made = sampler(max_attempts=3)
    asked, *patches = completions(made, lambda call, request: " ")
    with patches[0], patches[1]:
        (pair,) = made(MODEL, [tiny_row(answer="Sofa.")])
    assert len(asked) == 3 and pair["rejected"] == pair["chosen"] and pair["bdhs_similarity"] == 1.0


def test_a_single_attempt_is_guided_and_kept():
    made = sampler(max_attempts=1)
    made.similarity = lambda answers, chosen: [1.0] * len(answers)
    pairs = made(MODEL, rows(2))
    assert all(pair["bdhs_guided"] and pair["bdhs_attempts"] == 1 for pair in pairs)


@pytest.mark.parametrize("settings", [{}, {"guided": False}, {"max_batch_tokens": 10}])
def test_image_features_are_computed_once_for_all_attempts_and_not_at_all_when_hidden(settings):
    def encoded(threshold):
        made = sampler(max_attempts=4, mask_threshold=threshold, **settings)
        made.similarity = lambda answers, chosen: [1.0] * len(answers)
        with counted_images(MODEL) as encoded_images:
            made(MODEL, rows(3))
        return sum(encoded_images)

    assert encoded(0.0) == encoded(0.2) == 3
    assert encoded(1.0) == 0


def test_image_features_in_memory_are_bounded():
    """Few rows at a time where all of an image is shown, all rows where little is; the pairs are the same."""
    kept = []
    original = Completer.complete

    def complete(self, model, requests, *args, **kwargs):
        texts = original(self, model, requests, *args, **kwargs)
        features = {id(r.prompt): r.prompt.features for r in requests if r.prompt.features is not None}
        kept.append((len({id(request.prompt) for request in requests}), sum(map(len, features.values()))))
        return texts

    def made(bound, threshold):
        kept.clear()
        with mock.patch.object(Completer, "complete", complete):
            return rejected(sampler(max_batch_tokens=bound, mask_threshold=threshold, max_attempts=1)(MODEL, rows(6)))

    expected = made(16384, 0.0)
    per_image = kept[0][1] // 6
    assert kept == [(6, 6 * per_image)]
    assert made(-(-2 * per_image // FEATURES_PER_TOKEN), 0.0) == expected
    assert kept == [(2, 2 * per_image)] * 3
    made(1, 0.9)
    assert len(kept) > 1 and all(rows == 1 or count <= FEATURES_PER_TOKEN for rows, count in kept)


def test_what_the_image_shows_matters_only_as_far_as_it_is_visible():
    other = [{**row, "images": tiny_row(50 + index)["images"]} for index, row in enumerate(rows())]
    hidden, seen = sampler(mask_threshold=1.0), sampler(mask_threshold=0.0)
    assert rejected(hidden(MODEL, rows())) == rejected(hidden(MODEL, other))
    assert rejected(seen(MODEL, rows())) != rejected(seen(MODEL, other))


AWKWARD = [
    "no full stop",
    "Yes",
    "3.5",
    "- one\n- two\n",
    "1. A dog.\n2. A cat, e.g. at 5 p.m. near Mr. J. Smith.\n\nThat is all",
    "这里有一个圆。还有一个方。",
    "นี่คือสุนัข มันวิ่ง",
    "Nice 😀 day! ... 👨‍👩‍👧",
    "Dr. No is here.",
    "Line one\r\nLine two\n\n\n  indented. Tab\there.",
]
PARTS = [
    "A dog",
    " sits",
    " by Dr. No",
    ".",
    "!",
    " 3.5 cm",
    "\n",
    "\n\n",
    "- one",
    "1. ",
    "。",
    "圆",
    "ไม้",
    " 😀",
    " ",
    "Yes",
    "…",
]
TEXTS = st.lists(st.sampled_from(PARTS), min_size=1, max_size=12).map("".join).filter(str.strip)


def ends(request):
    """Where each sentence of the answer ends that a request is about, in the text behind the prompt."""
    lengths = map(len, split_sentences(request.prompt.answer))
    return [len(request.prompt.lead) + end for end in accumulate(lengths)]


@given(TEXTS | st.sampled_from(AWKWARD), st.integers(0, 99))
def test_sentences_that_are_completed_as_they_were_give_back_the_answer(answer, seed):
    made = sampler(max_attempts=1, swap_probability=0.0, seed=seed)

    def complete(model, requests, find_end, positions):
        text = requests[0].prompt.lead + answer
        assert len(requests) == len(ends(requests[0]))
        return [text[len(r.prefix) : end] for r, end in zip(requests, ends(requests[0]), strict=True)]

    with mock.patch.object(made.sentences, "complete", complete):
        (pair,) = made(None, [{**tiny_row(answer=answer), "images": []}])
    assert rejected([pair]) == [answer.strip()]
    assert pair["bdhs_similarity"] == 1.0


COMPLETIONS = st.sampled_from(["", " ", "\n", " red.", "red", "。", " 😀", " sits.\n"])


@example("Yes. No. Yes.", [" red.", ""], 0)  # sentences of one word are cut before it
@given(TEXTS | st.sampled_from(AWKWARD), st.lists(COMPLETIONS, min_size=1, max_size=9), st.integers(0, 99))
def test_first_parts_stay_in_place_and_joints_double_no_space(answer, completions, seed):
    made = sampler(max_attempts=1, swap_probability=0.0, seed=seed)
    asked = []

    def complete(model, requests, find_end, positions):
        asked.extend(requests)
        return [completions[number % len(completions)] for number in range(len(requests))]

    with mock.patch.object(made.sentences, "complete", complete):
        (pair,) = made(None, [{**tiny_row(answer=answer), "images": []}])
    text, position = rejected([pair])[0], 0
    assert text == text.strip()
    if "  " not in answer:
        assert "  " not in text
    starts = [len(asked[0].prompt.lead), *ends(asked[0])]
    for request, start in zip(asked, starts, strict=False):
        first_part = request.prefix[start:].strip()
        assert answer.startswith(request.prefix[len(request.prompt.lead) :])
        position = text.index(first_part, position) + len(first_part) if first_part else position


@pytest.mark.parametrize("processor", [PROCESSOR, FALLBACK[1]], ids=["byte level", "byte fallback"])
def test_awkward_answers_give_readable_answers(processor):
    """Random weights write any bytes: what is no character is left out, and so are special tokens."""
    model = MODEL if processor is PROCESSOR else FALLBACK[0]
    settings = {**FAST, "max_attempts": 2, "mask_threshold": 0.5, "temperature": 5.0}
    made = BDHSSampler(BDHSConfig(**settings), processor)
    sft = [tiny_row(seed, answer) for seed, answer in enumerate(AWKWARD)]
    pairs = made(model, sft) + BDHSSampler(BDHSConfig(**settings, guided=False), processor)(model, sft)
    for text in rejected(pairs):
        assert text and text == text.strip()
        assert not any(token in text for token in [*processor.tokenizer.all_special_tokens, "\ufffd"])


def test_rejected_has_parts_where_chosen_has():
    """A column of messages holds strings or parts, not both."""
    parts = {"role": "assistant", "content": [{"type": "text", "text": "A dog."}]}
    row = as_pair(tiny_row(chosen=[parts, parts]), "A cat.", 1, 0.5, True)
    assert row["rejected"] == [parts, {"role": "assistant", "content": [{"type": "text", "text": "A cat."}]}]


def test_earlier_turns_are_context_and_stay_as_they_are():
    """Turns of the prompt, and turns of `chosen` before its last message."""
    turns = [
        *tiny_row()["prompt"],
        {"role": "assistant", "content": "A circle. It is red."},
        {"role": "user", "content": "Is there a dog?"},
    ]
    last = {"role": "assistant", "content": "Yes. It sits."}
    in_prompt = tiny_row(prompt=turns, chosen=[last])
    in_chosen = tiny_row(prompt=turns[:1], chosen=[*turns[1:], last])
    made = sampler(max_attempts=1, swap_probability=0.0)
    asked, *patches = completions(made, lambda call, request: " CHANGED.")
    with patches[0], patches[1]:
        first, second = made(MODEL, [in_prompt, in_chosen])
    written = []
    for pair, row in [(first, in_prompt), (second, in_chosen)]:
        assert pair["prompt"] == row["prompt"] and pair["chosen"] == row["chosen"]
        assert pair["rejected"][:-1] == row["chosen"][:-1] and pair["rejected"][-1]["role"] == "assistant"
        assert pair["rejected"][-1]["content"].count("CHANGED.") == 2, (
            "sentences of earlier turns are not written anew"
        )
    for request in asked[0]:
        context = request.prompt.text + request.prefix
        assert context.count("<image>") == 1 and "A circle. It is red." in context and "Is there a dog?" in context
        written.append(context)
    assert "It sits" not in "".join(written[:1])


def test_text_only_rows_need_no_image():
    (pair,) = sampler()(MODEL, [{**tiny_row(), "images": []}])
    assert rejected([pair])[0]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"chosen": []}, "Row 1: `chosen` must be a string or a list of messages, but it is"),
        (
            {"chosen": [{"role": "user", "content": "Is it late?"}]},
            "Row 1: `chosen` ends with a message of the role user",
        ),
        (
            {"chosen": [{"role": "assistant", "content": "It is <image>."}]},
            "Row 1: `chosen` holds an image.*remove it",
        ),
        ({"chosen": None}, "Row 1: `chosen` must be"),
        ({"chosen": ...}, "Row 1: column `chosen` is missing"),
        ({"row_id": ...}, "Row 1 has no `row_id`.*`load_preferences` adds it"),
        (
            {"chosen": [{"role": "assistant", "tool_calls": [{"name": "look"}]}]},
            "Row 1: .* has no text.*Remove the row",
        ),
    ],
)
def test_rows_that_no_pair_can_be_made_from_are_named(change, problem):
    row = {**tiny_row(1), **change}
    with pytest.raises(ValueError, match=problem):
        sampler()(MODEL, [tiny_row(0), {name: value for name, value in row.items() if value is not ...}])
