import pytest
from hypothesis import given
from hypothesis import strategies as st

from trl_mm.data.word_differences import word_differences


@pytest.mark.parametrize(
    ("left", "right", "only_left", "only_right"),
    [
        ("A red dog sits.", "A green dog sits.", ["red"], ["green"]),
        ("A red dog sits.", "A dog sits.", ["red"], []),
        ("There is a small dog.", "There is a big old cat.", ["small dog"], ["big old cat"]),  # one run, not three
        ("one dog, two cats", "one dog two cats", [","], []),
        ("It's a well-known dog", "Its a well known dog", ["It's", "well-known"], ["Its", "well known"]),
        ("这是红色的猫。", "这是绿色的猫。", ["红"], ["绿"]),
        ("हिन्दी की बात", "हिन्दी का बात", ["की"], ["का"]),  # a vowel sign is part of its word
        ("a 👩‍👩‍👧 here", "a 👩‍👩‍👦 here", ["👩‍👩‍👧"], ["👩‍👩‍👦"]),
        ("same  words\nhere", "same words here", [], []),
        ("", "new", [], ["new"]),
    ],
)
def test_differences(left, right, only_left, only_right):
    spans_left, spans_right, _ = word_differences(left, right)
    assert [left[start:end] for start, end in spans_left] == only_left
    assert [right[start:end] for start, end in spans_right] == only_right


@pytest.mark.parametrize(
    ("left", "right", "share"),
    [("a b c d", "a b c x", 0.75), ("a b", "c d", 0.0), ("a", "a", 1.0), ("", "", 1.0), ("a b c", "a", 0.5)],
)
def test_share_in_common(left, right, share):
    assert word_differences(left, right)[2] == share


@given(*[st.text(st.sampled_from("ab .红"), max_size=30)] * 2)
def test_without_the_differences_the_texts_have_the_same_words(left, right):
    def rest(text, spans):
        for start, end in reversed(spans):
            text = text[:start] + " " + text[end:]
        return "".join(text.split())

    spans_left, spans_right, _ = word_differences(left, right)
    assert rest(left, spans_left) == rest(right, spans_right)


def test_long_texts_of_few_words_are_not_compared_word_by_word():
    """Each word would be compared with hundreds of equal ones: words that are everywhere begin no match."""
    left, right = "a b " * 250, "b b a " * 166
    assert word_differences(left, right) == ([(0, len(left) - 1)], [(0, len(right) - 1)], 0.0)
