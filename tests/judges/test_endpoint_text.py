import base64
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trl_mm.judges.endpoint_text import broken, json_of, message_of, shown, whole_characters, without_key


KEY = "sk-a/secret+of=this-test"


@pytest.mark.parametrize(
    "said",
    [
        KEY,
        quote(KEY, safe=""),
        quote(KEY, safe="").lower(),
        *(base64.b64encode(b"x" * before + KEY.encode() + b"after").decode() for before in range(3)),
        base64.urlsafe_b64encode(b"Bearer " + KEY.encode()).decode(),
        KEY[:20],
        f"{'x' * 280} {KEY}",
    ],
)
def test_a_key_is_hidden_in_every_form(said):
    text = shown(f"Wrong key: {said} Try again.", KEY)
    assert "***" in text
    for form in (said, KEY):
        assert not any(form[at : at + 12] in text for at in range(len(form) - 12) if "xxxx" not in form[at : at + 12])


@given(st.text(max_size=40), st.text(max_size=40))
def test_what_is_no_key_stays(before, after):
    assert without_key(before + KEY + after, KEY) == f"{before}***{after}"
    assert without_key(before, "") == before


def test_nothing_steers_a_terminal():
    assert shown("\x1b[2J\x9b1mred\u202e\r\n now", "") == "[2J 1mred now"


def test_halves_of_characters_are_replaced():
    assert whole_characters("a\ud83d") == "a\ufffd" and whole_characters("\udc00b🙂") == "\ufffdb🙂"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"error": {"message": "No model."}}', "No model."),
        (b'{"error": "No model"}', "No model."),
        (b'{"object": "error", "message": "Too long", "code": 400}', "Too long."),
        (b'{"detail": "Unexpected fields in the request"}', "Unexpected fields in the request."),
        (
            b'{"detail": [{"loc": ["body"], "msg": "Field required"}, {"msg": "Too short"}]}',
            "Field required; Too short.",
        ),
        (b'{"detail": [7]}', '{"detail": [7]}.'),
        (b"Internal Server Error", "Internal Server Error."),
        (b"", "nothing."),
    ],
)
def test_messages_are_found_in_what_servers_write(content, message):
    assert message_of(json_of(content), content, "") == message


def test_errors_without_a_text_have_a_name():
    assert broken(ConnectionResetError(), "") == "ConnectionResetError: the connection broke."
    assert broken(ValueError("Gone."), "") == "ValueError: Gone."
