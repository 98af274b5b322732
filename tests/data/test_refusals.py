import pytest

from trl_mm.data.refusals import is_refusal


@pytest.mark.parametrize(
    ("text", "refuses"),
    [
        ("I'm sorry, but I can't help with that.", True),
        ("I’m unable to see the image.", True),
        (" As an AI language model, I do not see.", True),
        ("I cannot make out a dog.", True),
        ("Unfortunately, there is no image.", True),
        ("A sorry sight: a dog in the rain.", False),
        ("As an airplane lands, people wait.", False),
        ("I can see a dog.", False),
        ("", False),
    ],
)
def test_refusals_are_told_by_how_they_begin(text, refuses):
    assert is_refusal(text) == refuses
