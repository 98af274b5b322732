import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trl_mm.eval import word_forms
from trl_mm.eval.word_forms import singular_forms, spans, tokenize, wordnet_forms


pytest.importorskip("nltk")
pytest.importorskip("textblob")

MARKS = ["``", "''"]
PIECES = ["a", "dog", "Bus", ".", "...", "!", '"', "'", "(", "**", "can't", "3.5", " ", "\n", "é", *MARKS]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("A dog. A cat.", ["A", "dog", ".", "A", "cat", "."]),
        ("It says 3.5. The end", ["It", "says", "3.5", ".", "The", "end"]),
        ('A "big bus." The', ["A", "``", "big", "bus", ".", "''", "The"]),
        ('(A "bus."). The', ["(", "A", "``", "bus.", "''", ")", ".", "The"]),
        ("A **bus.** The", ["A", "*", "*", "bus", ".", "*", "*", "The"]),
        ("bus... the", ["bus", "...", "the"]),
        ("A bus.\n\nThe", ["A", "bus", ".", "The"]),
        ("", []),
    ],
)
def test_every_sentence_ends_its_last_word(text, tokens):
    assert tokenize(text) == tokens


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_spans_are_in_order_and_hold_their_tokens(text):
    tokens = tokenize(text)
    found = spans(text, tokens)
    assert len(found) == len(tokens)
    assert [start for start, _ in found] == sorted(start for start, _ in found)
    for token, (start, end) in zip(tokens, found, strict=True):
        assert text[start:end] == token or (token in MARKS and text[start:end] in ('"', ""))


def test_singular_forms_are_those_of_pattern():
    words = {"dogs": "dog", "knives": "knife", "people": "person", "buses": "bus", "bus": "bu", "glass": "glas"}
    assert singular_forms(" ".join(words)) == (list(words), list(words.values()))


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "textblob.en.inflect", None)
    word_forms._singularize.cache_clear()
    with pytest.raises(ImportError, match=r"pip install trl-mm\[chair\]"):
        singular_forms("dogs")


def test_missing_data_are_named(monkeypatch):
    import nltk

    monkeypatch.setattr(nltk.data, "path", [])
    monkeypatch.setattr(nltk, "word_tokenize", lambda text: nltk.data.find("tokenizers/none_of_these"))
    with pytest.raises(OSError, match="python -m nltk.downloader punkt_tab averaged_perceptron_tagger_eng wordnet"):
        wordnet_forms("dogs")
