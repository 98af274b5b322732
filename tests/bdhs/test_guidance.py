import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trl_mm.bdhs.guidance import cut, find_sentence_end, split_sentences, swap_yes_no, swapped_word


AWKWARD = st.text(alphabet=st.sampled_from("ab .!?\n\t,3。！é😀\"'-Dr")) | st.text(max_size=80)


@given(AWKWARD)
def test_sentences_joined_give_back_the_text(text):
    sentences = split_sentences(text)
    assert "".join(sentences) == text
    assert all(sentence.strip() for sentence in sentences) or not text.strip()


@pytest.mark.parametrize(
    "text, expected",
    [
        ("There is a dog. It runs.", ["There is a dog. ", "It runs."]),
        ("Dr. Smith has 3.5 apples. He eats.", ["Dr. Smith has 3.5 apples. ", "He eats."]),
        ("A list:\n\n- one\n- two", ["A list:\n\n", "- one\n", "- two"]),
        ("这里有一个圆。还有一个方。", ["这里有一个圆。", "还有一个方。"]),
        ("no full stop", ["no full stop"]),
        ("Yes", ["Yes"]),
        ("Nice 😀! Good.", ["Nice 😀! ", "Good."]),
        ("1. A dog. It runs.\n2. A cat.", ["1. A dog. It runs.\n", "2. A cat."]),
    ],
)
def test_known_splits(text, expected):
    assert split_sentences(text) == expected


@pytest.mark.parametrize(
    "text, first",
    [
        (" red circle. There", " red circle."),
        (" red circle.", None),  # "3." may become "3.5"
        (" 3.5 cm wide. It", " 3.5 cm wide."),
        (" by Dr. Smith. He", " by Dr. Smith."),
        (" red circle", None),
        ("个圆。还", "个圆。"),
        ("", None),
        ("  \n", None),
        (" What? Yes", " What?"),
        ("\n2. A dog. Then", "\n2. A dog."),
        (" هذا كلب؟ نعم", " هذا كلب؟"),
        ("ထွေး။ သွ", "ထွေး။"),
        (". It runs", "."),
    ],
)
def test_end_of_the_first_sentence(text, first):
    end = find_sentence_end(text)
    assert (None if end is None else text[:end]) == first


@given(AWKWARD)
def test_end_is_inside_the_text_and_behind_something(text):
    end = find_sentence_end(text)
    assert end is None or (0 < end < len(text) and text[:end].strip())


@given(st.text(alphabet="ab \n", max_size=30), st.integers())
def test_a_cut_is_a_beginning_that_ends_between_words(sentence, seed):
    first = cut(sentence, random.Random(seed))
    stripped = sentence.strip()
    assert stripped.startswith(first) and first == first.rstrip()
    rest = stripped[len(first) :]
    assert not first or rest[:1].isspace()


def test_all_places_are_cut_equally_often():
    counts = Counter(cut("There is a red circle.", random.Random(seed)) for seed in range(5000))
    assert set(counts) == {"", "There", "There is", "There is a", "There is a red"}
    assert all(abs(count - 1000) < 150 for count in counts.values())
    assert "" not in {
        cut("There is a red circle.", random.Random(seed), before_first_word=False) for seed in range(200)
    }


def test_scripts_without_spaces_are_cut_between_characters():
    cuts = {cut("这里有圆。", random.Random(seed)) for seed in range(100)}
    assert {"", "这", "这里", "这里有"} <= cuts


def test_vowels_and_tones_stay_with_their_consonant():
    cuts = {cut("นี่คือไม้", random.Random(seed)) for seed in range(300)}
    assert {"", "นี่", "นี่คื", "นี่คือ"} <= cuts
    assert not {"น", "นี", "นี่ค"} & cuts


def test_one_word_is_always_cut_before_it():
    assert cut("Yes.", random.Random(0), before_first_word=False) == ""


@pytest.mark.parametrize(
    "sentence, swapped",
    [
        ("Yes, there is.", "No, there is."),
        ("no.", "yes."),
        ("NO way", "YES way"),
        (" Yes", " No"),
        ("Not at all.", "Not at all."),  # the paper's pattern would match these two
        ("North of it.", "North of it."),
        ("Yesterday", "Yesterday"),
        ("There is no dog.", "There is no dog."),
        ("", ""),
    ],
)
def test_a_leading_yes_or_no_is_swapped(sentence, swapped):
    assert swap_yes_no(sentence, 1.0, random.Random(0)) == swapped
    assert swap_yes_no(sentence, 0.0, random.Random(0)) == sentence


def test_swaps_happen_with_their_probability():
    rng = random.Random(0)
    swapped = sum(swap_yes_no("Yes.", 0.3, rng) == "No." for _ in range(4000))
    assert abs(swapped / 4000 - 0.3) < 0.03


@given(
    st.sampled_from(["Yes.", "no", "Yes, it is red.", " No dog is here.", "YES!", "No. ", "yes - of course"]),
    st.integers(),
)
def test_a_swapped_word_survives_every_cut(sentence, seed):
    rng = random.Random(seed)
    swapped = swap_yes_no(sentence, 1.0, rng)
    first = cut(swapped, rng, keep=swapped_word(sentence, swapped))
    word = "no" if sentence.strip().lower().startswith("yes") else "yes"
    assert first.lower().startswith(word) and swapped.strip().startswith(first)
    assert len(first.split()) < len(swapped.split()) or first.lower() == word, "something is left to be completed"


def test_what_was_not_swapped_is_cut_anywhere():
    assert swapped_word("Yes.", "Yes.") == swapped_word("There is no dog.", "There is no dog.") == 0
    assert {cut("No.", random.Random(seed), keep=2) for seed in range(9)} == {"No"}
    cuts = {cut("No, it is.", random.Random(seed), keep=2) for seed in range(50)}
    assert cuts == {"No,", "No, it"}
