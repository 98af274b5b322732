import pytest

from trl_mm.data.protocols import Verdict
from trl_mm.judges.prompts import ask_in_both_orders, combined, question


FIRST, SECOND, TIE, NOTHING = "Better: Response 1", "Better: Response 2", "Better: tie", "A dog."
USER = [{"role": "user", "content": "What is this?"}]


@pytest.mark.parametrize(
    ("shown", "turned", "choice", "outcome", "places"),
    [
        (FIRST, SECOND, 0, "clear", (0, 1)),
        (SECOND, FIRST, 1, "clear", (1, 0)),
        (TIE, TIE, None, "tie", (None, None)),
        (FIRST, FIRST, None, "inconsistent", (0, 0)),
        (SECOND, SECOND, None, "inconsistent", (1, 1)),
        (TIE, FIRST, None, "inconsistent", (None, 0)),
        (FIRST, TIE, None, "inconsistent", (0, None)),
        (NOTHING, FIRST, None, "invalid", (None, 0)),
        (FIRST, None, None, "invalid", (0, None)),
        (TIE, NOTHING, None, "invalid", (None, None)),
    ],
)
def test_a_verdict_needs_both_orders(shown, turned, choice, outcome, places):
    verdict = combined(shown, turned)
    assert (verdict.choice, verdict.outcome, verdict.places) == (choice, outcome, places)
    assert (shown or "") in verdict.text and (turned or "") in verdict.text


def test_each_answer_is_shown_first_once_with_the_images():
    asked = []

    def ask(questions):
        asked.extend(questions)
        return [FIRST, SECOND] + [FIRST, FIRST]

    prompts, images = [USER, USER, USER], [["image"], ["image"], []]
    verdicts = ask_in_both_orders(ask, prompts, images, [("A cat.", "A dog."), ("same", " same "), ("1", "2")])
    assert [verdict.outcome for verdict in verdicts] == ["clear", "tie", "inconsistent"]
    texts, shown = zip(*asked, strict=True)
    assert shown == (["image"], ["image"], [], [])
    assert texts[0].index("A cat.") < texts[0].index("A dog.")
    assert texts[1].index("A dog.") < texts[1].index("A cat.")
    assert texts[0] == question(USER, 1, "A cat.", "A dog.")


def test_nothing_is_asked_about_answers_that_are_the_same():
    verdicts = ask_in_both_orders(lambda questions: pytest.fail("asked"), [USER] * 2, [[]] * 2, [("a", "a")] * 2)
    assert verdicts == [Verdict(None, "tie", "The two answers are the same.")] * 2
    assert ask_in_both_orders(lambda questions: pytest.fail("asked"), [], [], []) == []


def test_the_question_says_what_was_asked_and_what_to_answer():
    text = question(USER, 1, "A cat. {x}", "A dog.")
    assert "[Request]\nWhat is this?\n" in text and "A cat. {x}" in text and "image" in text
    assert text.count("Better: ") == 3
    assert "image" not in question(USER, 0, "a", "b")


def test_several_turns_and_images_are_told_apart():
    prompt = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "And "}, {"type": "image"}]},
        {"role": "assistant", "content": "A cat."},
        {"role": "user", "content": [{"type": "text", "text": "Sure?"}]},
    ]
    expected = "[Request]\nUser: [image 1] And [image 2]\nAssistant: A cat.\nUser: Sure?\n[End of request]"
    assert expected in question(prompt, 2, "a", "b")
    assert "User: And\n" in question(prompt, 1, "a", "b")
