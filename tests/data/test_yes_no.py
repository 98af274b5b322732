import pytest

from trl_mm.data.yes_no import parse_yes_no


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Yes", "yes"),
        ("no", "no"),
        (" YES, there is a dog.", "yes"),
        ("No. There is not.", "no"),
        ("No dog is visible.", "no"),
        ("**Yes**", "yes"),
        ("_no_", "no"),
        ('"Yes"', "yes"),
        ("The answer is no.", "no"),
        ("Answer: Yes", "yes"),
        ("yes\n\nno", "yes"),
        ("Yes or no", None),
        ("yes/no", None),
        ("Not that I can see", None),
        ("Nothing", None),
        ("yesterday", None),
        ("There is a dog.", None),
        ("I see no dog.", None),
        ("", None),
    ],
)
def test_parse_yes_no(answer, expected):
    assert parse_yes_no(answer) == expected
