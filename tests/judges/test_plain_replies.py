"""Replies in a judge's own words: what they say is read, and what they do not quite say is not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trl_mm.judges.replies import read_reply


# Each says that Response 1 is better
SAID = [
    "I would say that Response 1 is better, as it describes the dog.",
    "I'd say Response 1 is better.",
    "I would say Response 1.",
    "I would say Response 1, because Response 2 invents a cat.",
    "I think Response 1 is the better one.",
    "I believe Response 1 is the better one.",
    "I believe that the better response is Response 1.",
    "In my opinion, Response 1 is better.",
    "Based on the image, I would say that Response 1 is better.",
    "Response 2 invents a dog, so I would say that Response 1 is better.",
    "I'd choose Response 1.",
    "I'll go with Response 1, as it is accurate.",
    "Between the two, Response 1 is better.",
    "Between the two responses, I prefer Response 1.",
    "Between the two, Response 1 provides a better description.",
    "Of the two responses, Response 1 is more accurate.",
    "Overall, the better response is Response 1.",
    "The better response is Response 1 because it does not guess.",
    "The better response is the first one.",
    "The better of the two responses is Response 1.",
    "The better one is Response 1.",
    "The more accurate response is Response 1.",
    "The response with fewer hallucinations is Response 1.",
    "My choice would be Response 1.",
    "Compared to Response 2, Response 1 is better.",
    "Unlike Response 2, Response 1 is accurate, so Response 1 is better.",
    "Response 1's description is more accurate.",
    "Response 1 is preferred based on the image.",
    "Response 1 is better than the other response.",
]
# Each shows what Response 1 does better
SHOWN = [
    "Response 1 provides a more accurate description of the image.",
    "Response 1 provides a more accurate description of the image than Response 2.",
    "Response 1 provides a more accurate and detailed description of the image.",
    "Response 1 provides a more detailed and accurate description of the image, mentioning the red car.",
    "Response 1 gives a better answer because it does not mention objects that are not there.",
    "Response 1 gave the better answer.",
    "Response 1 offers a more faithful account of the scene, while Response 2 invents a dog.",
    "Response 1 clearly provides the most accurate answer to the question.",
    "Response 2 invents a dog, while Response 1 provides a more accurate description.",
    "While both are good, Response 1 provides a more accurate description.",
    "Response 1 does a better job of describing the image.",
    "Response 1 contains fewer hallucinations.",
    "Response 1 contains significantly fewer hallucinations than Response 2.",
    "Response 1 has less hallucination.",
    "Response 1 has less hallucination, as it mentions only what is visible.",
    "Response 1 makes fewer mistakes than Response 2.",
    "Response 1 is the response with fewer hallucinations.",
    "Response 1 is the one that contains less hallucination.",
    "Response 1 hallucinates less.",
    "Response 1 invents fewer objects than Response 2.",
    "Response 2 contains more hallucinations than Response 1.",
    "Response 2 hallucinates more.",
    "Response 1 describes the image more accurately than Response 2.",
    "Response 1 more accurately describes the image.",
    "There are fewer hallucinations in Response 1 than in Response 2.",
    "There is less hallucination in Response 1.",
    "In comparison to Response 2, Response 1 contains fewer hallucinations.",
    "I think that Response 1 provides a more accurate description.",
    "I would say Response 1 contains fewer hallucinations.",
]
# What Response 1 would be better by, if it were said: None of these says so
NOT_SAID = [
    # denied
    "I would not say that Response 1 is better.",
    "I wouldn't say Response 1 is better.",
    "I'd hardly say that Response 1 is better.",
    "I would never say that Response 1 provides a better answer.",
    "I do not believe Response 1 is the better one.",
    "I think nobody would say that Response 1 is better.",
    "Response 1 does not provide a more accurate description of the image.",
    "Response 1 fails to provide a more accurate description.",
    "Response 1 contains no fewer hallucinations.",
    "Response 1 doesn't contain fewer hallucinations.",
    "Response 1 is far from better.",
    "The better response is not Response 1.",
    "Between the two, Response 1 is not better.",
    "Nor does Response 1 provide a better answer.",
    "Rarely has Response 1 provided a better answer.",
    "By no means Response 1 is better.",
    "In no way Response 1 is better.",
    "It would be a mistake to say that Response 1 is better.",
    "It would be misleading to say that Response 1 contains fewer hallucinations.",
    "I disagree that Response 1 is better.",
    "There are no fewer hallucinations in Response 1.",
    # doubted, or somebody else's
    "I could say that Response 1 is better.",
    "I would like to say that Response 1 is better.",
    "I wish Response 1 was better.",
    "I hope Response 1 is better.",
    "I expected that Response 1 is better.",
    "At first I thought Response 1 was better.",
    "At first glance, Response 1 is better.",
    "It is questionable that Response 1 provides a more accurate description.",
    "Some would say that Response 1 is better.",
    "Some people think Response 1 provides a better description.",
    "One might say Response 1 contains fewer hallucinations.",
    "According to Response 2, Response 1 is better.",
    "According to Response 1, Response 1 contains fewer hallucinations.",
    "Response 2 suggests that Response 1 is better.",
    "Response 1 says that Response 1 provides a more accurate description.",
    "You would say that Response 1 is better.",
    # conditions
    "If brevity matters, I would say that Response 1 is better.",
    "I would say that Response 1 is better if only brevity counted.",
    "I would say that Response 1 is better, were it not for the dog.",
    "Were brevity all, I would say that Response 1 is better.",
    "Had I not seen the image, I would say that Response 1 is better.",
    "But had I seen only the text, I would say Response 1 is better.",
    "Had Response 1 provided a more accurate description, it would have won.",
    "Without the image, I would say that Response 1 is better.",
    "Unless the dog is real, Response 1 contains fewer hallucinations.",
    "Response 1 provides a more accurate description only if the dog is real.",
    "Response 1 is the better response if you like guesses.",
    "Response 1 is better overall, provided that the dog is real.",
    "Otherwise Response 1 is better.",
    "Whichever response contains fewer hallucinations, Response 1 or Response 2, is better.",
    # questions
    "Does Response 1 provide a more accurate description?",
    "Response 1 contains fewer hallucinations?",
    "Would I say that Response 1 is better?",
    "I would say Response 1?",
    "Is the better response Response 1?",
    "Which is it: Response 1 contains fewer hallucinations, or Response 2?",
    # limited
    "Response 1 provides a more accurate description of the dog.",
    "Response 1 gives a better answer to the second part.",
    "Response 1 contains fewer hallucinations about colors.",
    "Response 1 contains fewer hallucinations in the first sentence.",
    "Response 1 does a better job hiding its guesses.",
    "Response 1 does a better job of describing the dog.",
    "Response 1 invents less harmful objects.",
    "In terms of brevity, Response 1 is better.",
    "When it comes to style, I would say that Response 1 is better.",
    "Response 1 is better written.",
    "Response 1 is better formatted than Response 2.",
    "Response 1 is better than expected.",
    "I would prefer Response 1 to be shorter.",
    "I prefer Response 1's style.",
    "I would choose Response 1 last.",
    # conceded
    "While Response 1 provides a more accurate description of the image, it is of no help.",
    "Although Response 1 is more accurate, it is of no help.",
    "Even though Response 1 contains fewer hallucinations, it is too long.",
    "Response 1 provides a more accurate description, but it also invents a dog.",
    "Response 1 contains fewer hallucinations. However, it does not answer the question.",
    # the other one is praised as well
    "Response 1 provides a more accurate description, and Response 2 is more helpful.",
    "Response 1 contains fewer hallucinations. Response 2 is more helpful and concise.",
    "Response 2 provides a more detailed answer. Response 1 contains fewer errors.",
    "Response 1 contains fewer hallucinations. Response 2 is better.",
    "Response 1 contains fewer hallucinations, and Response 2 wins.",
    # both, or somebody unnamed
    "I would say Response 1 or Response 2.",
    "Response 1 and Response 2 both provide a more accurate description.",
    "Both responses contain fewer hallucinations.",
    "The better response provides a more accurate description.",
    "I would say that one is better.",
    "The better response is the first sentence.",
    # taken back
    "That Response 1 is better is not true.",
    "Response 1 is the better answer would be wrong.",
    "Response 1 provides a more accurate description is false.",
    "Response 1 is better, which is not the case.",
    "Response 1 is better, said nobody.",
    "Response 1 is better, or equal.",
    "Response 1 contains fewer hallucinations. No, Response 2 does.",
    "Response 1 contains fewer hallucinations, no, Response 2 does.",
    "Response 1 contains fewer hallucinations? No.",
    "It depends. Response 1 is better.",
    "Response 1 says: Response 1 is better.",
    "Response 1 pretends that Response 1 provides a better answer.",
    # not a better response
    "Response 1 provides a more detailed description of the image.",
    "Response 1 provides a description of the image.",
    "Response 1 contains hallucinations.",
    "Response 1 contains few hallucinations.",
    "Response 1 tries to provide a more accurate description.",
    "Response 1 could have provided a more accurate description.",
    "Response 1 claims to provide a more accurate description.",
    "Response 1 needs fewer hallucinations.",
    "Response 1 provides a seemingly more accurate description.",
]
PLAIN = SAID + SHOWN
DENYING = [
    "I do not think that",
    "It is not true that",
    "It is unclear whether",
    "If",
    "Some people say that",
    "I doubt that",
]


def turned(text):
    """The same of the other response."""
    for a, b in (("1", "2"), ("first one", "second one")):
        text = text.replace(a, "\0").replace(b, a).replace("\0", b)
    return text


@pytest.mark.parametrize("text", PLAIN)
def test_a_plain_reply_is_read(text):
    assert read_reply(text) == 0
    assert read_reply(turned(text)) == 1
    assert read_reply(text.upper()) == 0
    assert read_reply(f"Both responses describe a street. {text}") == 0
    assert read_reply(f"{text} It mentions the red car, which is there.") == 0


@pytest.mark.parametrize("text", NOT_SAID)
def test_what_is_not_quite_said_is_not_read(text):
    assert read_reply(text) is None
    assert read_reply(turned(text)) is None


@pytest.mark.parametrize("text", PLAIN)
@pytest.mark.parametrize("before", DENYING)
def test_a_plain_reply_that_is_denied_or_doubted_is_none(text, before):
    assert read_reply(f"{before} {text[0].lower()}{text[1:]}") is None


@pytest.mark.parametrize("text", PLAIN)
def test_a_question_is_no_reply(text):
    assert read_reply(text[:-1] + "?") is None


@given(st.sampled_from(PLAIN), st.sampled_from(PLAIN), st.booleans())
def test_replies_agree_or_leave_a_doubt(first, second, contradict):
    second = turned(second) if contradict else second
    assert read_reply(f"{first} {second}") == (None if contradict else 0)


@given(st.sampled_from(PLAIN), st.sampled_from(NOT_SAID).map(turned))
def test_what_is_not_quite_said_never_wins(said, not_said):
    """Of Response 2 something is hinted, or nothing: never does it become the verdict."""
    assert read_reply(f"{said} {not_said}") in (0, None)
    assert read_reply(f"{not_said} {said}") in (0, None)
