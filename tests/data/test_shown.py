import pytest
from hypothesis import given
from hypothesis import strategies as st

from trl_mm.data.shown import printable, shown, shown_names


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain, ünïcode 图", "plain, ünïcode 图"),
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("two\nlines", r"two\nlines"),
        ("half \ud83d", r"half \ud83d"),
        ("turned \u202eround", r"turned \u202eround"),
        (["\x1b"], r"['\x1b']"),
        (None, "None"),
    ],
)
def test_what_a_terminal_would_obey_is_escaped(value, text):
    assert shown(value) == text


@given(st.text(), st.integers(2, 100))
def test_any_text_is_short_and_can_be_printed(text, most):
    result = shown(text, most)
    assert result.isprintable()
    result.encode()
    assert len(result) <= 10 * most + 50


def test_a_long_text_keeps_its_ends():
    assert shown("a" * 150 + "b" * 1_000_000 + "c" * 150) == f"{'a' * 100} … 1,000,100 more characters … {'c' * 100}"


def test_names_are_few():
    assert shown_names(["a\x1b", 3]) == r"a\x1b, 3"
    assert shown_names(f"c{index}" for index in range(5000)).endswith("c19, and 4980 more")


def test_some_characters_may_stay():
    assert printable("a\n\x1b", keep="\n") == "a\n\\x1b"
