import pytest
from hypothesis import given
from hypothesis import strategies as st

from trl_mm.corruption.checks import REASONS, cleaned, fault, fault_of_similarity
from trl_mm.corruption.config import CorruptionConfig
from trl_mm.corruption.wording import EXAMPLES, request


CHOSEN = "A man rides a brown horse along the beach. Two dogs run behind him, and the sky is grey."
CONFIG = CorruptionConfig(similarity="lexical")


@pytest.mark.parametrize(
    ("rewriting", "expected"),
    [
        (CHOSEN.replace("horse", "camel"), None),
        (CHOSEN.replace("Two dogs", "Three dogs"), None),
        ("", "empty"),
        (f"  {CHOSEN.upper()}\n", "equal"),
        ("I'm sorry, but I can't help with writing false statements about an image like this one here.", "refusal"),
        ("As an AI language model, I cannot see the image, so I will not change what is said about it.", "refusal"),
        (f"Here is the rewritten answer: {CHOSEN.replace('horse', 'camel')}", "comment"),
        (f"Sure! {CHOSEN.replace('horse', 'camel')}", "comment"),
        (CHOSEN.replace("horse", "camel (changed from horse)"), "comment"),
        (f"[Answer with mistakes]\n{CHOSEN.replace('horse', 'camel')}", "comment"),
        ("A man rides a camel.", "too short"),
        (
            CHOSEN.replace("horse", "camel") + " A boat lies on the sand, and a woman with a red hat waves." * 2,
            "too long",
        ),
    ],
)
def test_what_is_no_plausible_answer_is_refused(rewriting, expected):
    assert fault(CHOSEN, cleaned(rewriting), CONFIG) == expected


def test_what_the_chosen_answer_has_itself_is_no_fault():
    assert fault("Sorry, that is not to be seen here.", "Sorry, this is not to be seen there.", CONFIG) is None
    assert fault("Sure, it is a dog.", "Sure, it is a cat.", CONFIG) is None


def test_short_answers_may_change_in_length():
    assert fault("There are three.", "Four.", CONFIG) is None
    assert fault("Yes", "No", CONFIG) is None
    assert fault("Three", "There are four of them", CONFIG) == "too long"


def test_quotation_marks_around_a_reply_go():
    assert cleaned(' "A dog." ') == cleaned("“A dog.”\n") == "A dog."
    assert cleaned('"Yes," he says. "A dog."') == '"Yes," he says. "A dog."'


def test_the_gate_has_two_ends():
    assert fault_of_similarity(1.0, CONFIG) == "too similar" and fault_of_similarity(0.1, CONFIG) == "unlike"
    assert fault_of_similarity(0.9, CONFIG) is None


@pytest.mark.parametrize(("question", "good", "bad"), EXAMPLES)
def test_the_examples_pass_their_own_checks(question, good, bad):
    assert fault(good, bad, CONFIG) is None and good != bad
    assert request("Why?", "So.").count(bad) == 1


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_text_has_a_known_outcome(chosen, rewriting):
    assert fault(chosen, cleaned(rewriting), CONFIG) in {None, *REASONS}


@pytest.mark.parametrize(
    "settings",
    [{"max_attempts": 0}, {"temperature": -1}, {"least_length": 1.5}, {"most_length": 0.5}, {"least_similarity": 1.0}],
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ValueError, match=f"`{next(iter(settings))}`"):
        CorruptionConfig(**settings)
