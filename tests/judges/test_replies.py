import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trl_mm.judges.replies import TIE, read_reply


READABLE = {
    "Better: Response 1": 0,
    "better : response 2": 1,
    "**Better: Response 2**\n\nIt does not invent a dog.": 1,
    "Response 1": 0,
    "RESPONSE 2.": 1,
    "Response 1. It is accurate.": 0,
    "Response 1, because Response 2 invents a cat.": 0,
    "Answer: Response 2": 1,
    "The better response is Response 2.": 1,
    "I prefer Response 2 over Response 1.": 1,
    "The first response is better.": 0,
    "Response 2 is the better response, as it describes the image more accurately.": 1,
    "Response 1 is better because it does not mention objects that are not in the image.": 0,
    "Response 1 is better than Response 2 because it is more accurate.": 0,
    "Response 2 mentions a dog that is not there, so Response 1 is better.": 0,
    "Since Response 2 names a dog that is not there, Response 1 is better.": 0,
    "Response 1 is better. Response 2 is worse.": 0,
    "Response 1 is less accurate.": 1,
    "Better: Response 1\nResponse 2 is not better.": 0,
    "Better: Response 1\nResponse 1 describes the picture better than Response 2.": 0,
    "Better: Response 1\nResponse 1 says that there are two dogs, whereas Response 2 invents a cat.": 0,
    "Which is better, Response 1 or Response 2? Response 2.": 1,
    "<think>Response 1 is better</think>\nBetter: Response 2": 1,
    "Better: tie": TIE,
    "It is a tie.": TIE,
    "Both responses are equally good.": TIE,
    "Neither response is better.": TIE,
}
UNREADABLE = [
    "",
    "1",  # the answer to a question about the image, for all we know
    "Yes.",
    "There are two dogs.",
    "The man wears a tie.",
    "It is not a tie.",
    "Better: Response 1 or Response 2",
    "Better: Response 1, Response 2 or tie",
    'Begin with one line that is exactly "Better: Response 1", "Better: Response 2" or "Better: tie".',
    "Response 12 is better",
    "Response 1.5 is better",
    "Response 1 and Response 2 are both good.",
    # headings, not verdicts
    "Response 1: mentions a dog.\nResponse 2: accurate.",
    "**Response 1**\nThe response mentions a dog",
    # negations
    "Response 1 is not better.",
    "Response 1 isn't better than Response 2",
    "Response 1 is no better than Response 2.",
    "Response 1 is hardly the better one.",
    "I do not think Response 1 is better.",
    "I don't prefer Response 1.",
    "I would not choose Response 1",
    "Neither Response 1 nor Response 2 is better.",
    # doubts and conditions
    "It is unclear whether Response 1 is better.",
    "Either Response 1 or Response 2 is better.",
    "If brevity matters, Response 1 is better.",
    "Response 1 could be better.",
    "Response 1 would be better",
    "Is Response 1 better?",
    "Response 1 is better?",
    "Response 2 claims that Response 1 is better.",
    "Response 1 is better at inventing objects",
    "<think>Response 1 is better",
    # contradictions
    "Response 1 is better. Response 1 is worse.",
    "Response 1 is better in some ways, but overall Response 2 is better.",
    "Better: Response 1\nResponse 1 is not better.",
    "Better: Response 1\nHowever, Response 2 describes the picture better.",
    "Better: Response 1. The other is better.",
    "Better: Response 1\nBetter: tie",
    "Better: Response 1\nBetter: Response 2",
]
VERDICTS = st.sampled_from([text for text, choice in READABLE.items() if choice in (0, 1) and "<" not in text])
# Words that replies are made of, put together at random
WORDS = st.sampled_from(
    "Response|Response 1|Response 2|response 1|Answer|1|2|is|was|not|isn't|n't|better|worse|the|tie|a tie|neither|nor"
    "|or|and|but|because|so|than|if|whether|prefer|I|Better:|more accurate|equally good|both|.|,|?|:|\n|dog|**".split(
        "|"
    )
)
TEXTS = st.lists(WORDS, max_size=14).map(" ".join)


def swapped(text):
    """The text with the two responses in each other's place."""
    other = {"1": "2", "2": "1", "first": "second", "second": "first"}
    return re.sub(r"(?<![\d.])[12](?![\d.]\d|\d)|first|second", lambda match: other[match[0]], text)


@pytest.mark.parametrize(("text", "choice"), READABLE.items())
def test_a_plain_verdict_is_read(text, choice):
    assert read_reply(text) == choice
    assert read_reply(text.upper()) == read_reply(text.lower()) == choice


@pytest.mark.parametrize("text", UNREADABLE)
def test_in_doubt_there_is_no_verdict(text):
    assert read_reply(text) is None
    assert read_reply(swapped(text)) is None


@given(TEXTS)
def test_responses_in_each_others_place_swap_the_verdict(text):
    expected = {0: 1, 1: 0}
    choice = read_reply(text)
    assert read_reply(swapped(text)) == expected.get(choice, choice)


@given(st.text(max_size=80) | TEXTS)
def test_a_text_that_names_no_response_prefers_none(text):
    text = re.sub(r"(?i)response|answer|reply", "text", text)
    assert read_reply(text) in (None, TIE)


@given(VERDICTS, VERDICTS, st.sampled_from(["\n", " "]))
def test_two_verdicts_agree_or_leave_a_doubt(first, second, between):
    first = first if first.endswith((".", "!")) else first + "."
    choices = {read_reply(first), read_reply(second)}
    assert read_reply(first + between + second) in (choices if len(choices) == 1 else {None})


@given(TEXTS, st.sampled_from("12"), st.sampled_from(["is better", "is worse", "is not better", "is the best"]))
def test_what_contradicts_a_verdict_takes_it_away(text, number, said):
    """Whatever else is written, a further sentence never leaves the verdict that it denies."""
    prefers = number if said in ("is better", "is the best") else {"1": "2", "2": "1"}[number]
    assert read_reply(f"{text}\nResponse {number} {said}.") in (int(prefers) - 1, None)
    assert read_reply(f"Response {number} {said}.\n{text}") in (int(prefers) - 1, None)


@given(VERDICTS, st.sampled_from(["I do not think that", "It is not true that", "It is unclear whether", "If"]))
def test_a_denied_or_doubted_verdict_is_none(text, before):
    number = {0: 1, 1: 2}[read_reply(text)]
    assert read_reply(f"{before} Response {number} is better.") is None
    assert read_reply(f"{text if text.endswith('.') else text + '.'} {before} Response {number} is better.") is None
