"""The paper's style: one question about each pair, in a random order that belongs to the pair."""

import random
from statistics import NormalDist

import pytest
from PIL import Image

from trl_mm.judges.prompts import ask_in_style, ask_once, question, single
from trl_mm.judges.replies import read_reply
from trl_mm.judges.wording import STYLES, check_style


USER = [{"role": "user", "content": "What is this?"}]
PAIR = ("A cat.", "A dog.")


def picture(value=0):
    return Image.new("RGB", (4, 4), (value % 256, value // 256, 0))


def shown(text):
    """The two answers as a question shows them."""
    return tuple(text.partition(f"[Response {n}]\n")[2].partition(f"\n[End of Response {n}]")[0] for n in (1, 2))


class Annotator:
    """Replies as told, and keeps what it was asked."""

    def __init__(self, reply="Response 1 is better."):
        self.asked, self.reply = [], reply if callable(reply) else lambda first, second: reply

    def __call__(self, questions):
        self.asked += questions
        return [self.reply(*shown(text)) for text, _ in questions]

    def places(self, images, pairs, seed=0, prompt=USER):
        """For each pair, 0 if its first answer is shown first, 1 otherwise."""
        self.asked.clear()
        ask_once(self, [prompt] * len(pairs), images, pairs, seed)
        return [pair.index(shown(text)[0]) for pair, (text, _) in zip(pairs, self.asked, strict=True)]


def fair(heads, tosses):
    """Whether a fair coin gives such a count but for one time in ten thousand."""
    return abs(heads - tosses / 2) < NormalDist().inv_cdf(1 - 5e-5) * tosses**0.5 / 2


def test_each_pair_is_asked_about_once():
    annotator = Annotator()
    pairs, images = [PAIR, ("same", " same "), ("1", "2")], [[picture(1)], [picture(2)], []]
    verdicts = ask_once(annotator, [USER] * 3, images, pairs)
    assert [verdict.outcome for verdict in verdicts] == ["clear", "tie", "clear"]
    assert [images for _, images in annotator.asked] == [images[0], images[2]]
    assert [sorted(shown(text)) for text, _ in annotator.asked] == [sorted(pairs[0]), sorted(pairs[2])]
    assert all(verdict.first_order is None for verdict in verdicts), "there is but one order"
    assert ask_once(lambda questions: pytest.fail("asked"), [USER], [[]], [("a", "a")])[0].outcome == "tie"


def test_a_judge_that_knows_is_right_in_any_order():
    pairs = [(f"right {i}", f"wrong {i}") if i % 3 else (f"wrong {i}", f"right {i}") for i in range(60)]
    annotator = Annotator(lambda first, second: f"I would say that Response {1 + ('right' in second)} is better.")
    verdicts = ask_once(annotator, [USER] * 60, [[picture(i)] for i in range(60)], pairs)
    assert [verdict.choice for verdict in verdicts] == [0 if i % 3 else 1 for i in range(60)]
    first = sum(verdict.places == (0,) for verdict in verdicts)
    assert 15 < first < 45 and {verdict.places for verdict in verdicts} == {(0,), (1,)}


def test_what_tells_pairs_apart_tells_their_orders_apart():
    """Short answers to one question come again and again: the image decides too."""
    annotator, count = Annotator(), 2000
    by_image = annotator.places([[picture(i)] for i in range(count)], [("Yes.", "No.")] * count)
    by_text = annotator.places([[picture()]] * count, [(f"A cat {i}.", f"A dog {i}.") for i in range(count)])
    by_prompt = [
        annotator.places([[]], [("Yes.", "No.")], prompt=[{"role": "user", "content": f"Are there {i}?"}])[0]
        for i in range(count)
    ]
    by_seed = [annotator.places([[picture()]], [PAIR], seed=seed)[0] for seed in range(count)]
    for places in (by_image, by_text, by_prompt, by_seed):
        assert fair(sum(places), count)
        repeats = sum(a == b for a, b in zip(places, places[1:], strict=False))
        assert fair(repeats, count - 1), "one order says nothing of the next one"


def test_the_order_belongs_to_the_pair():
    annotator, count = Annotator(), 300
    images, pairs = [[picture(i)] for i in range(count)], [(f"A cat {i}.", "A dog.") for i in range(count)]
    random.seed(1)
    state = random.getstate()
    places = annotator.places(images, pairs)
    assert random.getstate() == state
    random.seed(2)
    assert annotator.places(images, pairs) == places, "resumed, in another process, or asked again"
    assert annotator.places(images[::-1], pairs[::-1])[::-1] == places, "whatever else is in the batch"
    turned = annotator.places(images, [pair[::-1] for pair in pairs])
    assert [1 - place for place in turned] == places, "the same question whichever answer is named first"
    assert fair(sum(a == b for a, b in zip(annotator.places(images, pairs, seed=1), places, strict=True)), count)


def test_a_judge_that_likes_a_place_gains_nothing_by_it():
    count = 1000
    pairs = [(f"right {i}", f"wrong {i}") for i in range(count)]
    verdicts = ask_once(Annotator(), [USER] * count, [[]] * count, pairs)
    assert fair(sum(verdict.choice == 0 for verdict in verdicts), count)
    assert {verdict.places for verdict in verdicts} == {(0,)}


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(
    ("reply", "place"),
    [
        ("Response 1 is better.", 0),
        ("I prefer Response 2.", 1),
        ("It is a tie.", None),
        ("A dog.", None),
        (None, None),
    ],
)
def test_one_reply_is_clear_or_invalid(reply, place, turned):
    verdict = single(reply, turned)
    assert verdict.outcome == ("invalid" if place is None else "clear")
    assert verdict.choice == (None if place is None else place ^ turned) and verdict.places == (place,)
    assert (reply or "") in verdict.text


def test_the_question_offers_no_tie_and_no_fixed_form():
    text = question(USER, 1, "A cat. {x}", "A dog.", style="paper")
    assert shown(text) == ("A cat. {x}", "A dog.") and "[Request]\nWhat is this?\n" in text
    assert "image" in text and "tie" not in text.split() and "Better:" not in text
    assert "image" not in question(USER, 0, "a", "b", style="paper")
    assert all(read_reply(question(USER, count, "a", "b", style)) is None for count in (0, 1) for style in STYLES)


def test_styles_are_told_apart():
    for style, count in (("both_orders", 2), ("paper", 1)):
        annotator = Annotator()
        ask_in_style(style, 0, annotator, [USER], [[picture()]], [PAIR])
        assert [text for text, _ in annotator.asked][0] in [
            question(USER, 1, *pair, style=style) for pair in (PAIR, PAIR[::-1])
        ]
        assert len(annotator.asked) == count
    with pytest.raises(ValueError, match="`style` must be one of both_orders, paper, got 'both'"):
        check_style("both")
