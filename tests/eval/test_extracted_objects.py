import pytest

from trl_mm.eval import extracted_objects, word_forms
from trl_mm.eval.extracted_objects import RefinedVocabulary, extraction_request, is_short, read_objects


SYNONYMS = [["person", " man"], ["dining table", "table"], ["toilet"], ["chair", "seat"], ["bird"], ["train"], ["tie"]]
TAGS = {"a": "DT", "wooden": "JJ", "red": "JJ"}


@pytest.fixture
def vocabulary(monkeypatch):
    """Without NLTK's data: whatever is not tagged here is a noun, and singular without its s."""
    for module in (word_forms, extracted_objects):
        monkeypatch.setattr(module, "word_tokenize", str.split)
        monkeypatch.setattr(module, "tagged", lambda tokens: [(token, TAGS.get(token, "NN")) for token in tokens])
        monkeypatch.setattr(module, "lemma", lambda word: word.rstrip("s"))
    return RefinedVocabulary(SYNONYMS)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["Wooden dining tables"], ["dining table"]),
        (["table lamp", "table"], ["table"]),  # nouns beside one another are one name
        (["wooden table", "table"], ["table"]),  # once
        (["men", "man", "person"], ["man", "person"]),  # once each, though one object
        (["baby birds", "train track"], ["bird"]),
        (["toilet", "seat"], ["toilet"]),
        (["seat"], ["seat"]),
        (["red"], []),
        ([""], []),
    ],
)
def test_names_become_words_of_coco(vocabulary, names, words):
    assert vocabulary.words(names) == words


def test_captions_are_read_word_by_word(vocabulary):
    found = [mention.object for mention in vocabulary.mentions("A table lamp, a man , bow tie and dining tables")]
    assert found == ["dining table", "person", "tie", "dining table"]
    assert vocabulary.object_of("man") == "person"
    assert vocabulary.object_of("lamp") is None


@pytest.mark.parametrize(
    ("reply", "names"),
    [
        ('["dog", "cat"]', ["dog", "cat"]),
        ("[]", []),
        ('Here:\n```json\n["dog",\n "cat"]\n```\nDone.', ["dog", "cat"]),
        ('The objects are:\n["dog"]', ["dog"]),
        ('[\n"dog"\n]', ["dog"]),
        ('["dog"', None),
        ("[1]", None),
        ('{"objects": ["dog"]}', None),
        ("No objects.", None),
        ("[" * 100_000, None),
        ("", None),
        (None, None),
    ],
)
def test_replies_are_read(reply, names):
    assert read_objects(reply) == names


def test_short_answers_name_nothing():
    assert is_short(" A red dog. ")
    assert is_short("")
    assert not is_short("A red dog runs.")


def test_the_request_holds_question_and_answer():
    text = extraction_request("What is {answer}?", "A {question}.")
    assert "What is {answer}?" in text and "A {question}." in text
    assert "JSON list" in text
