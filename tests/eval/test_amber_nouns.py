import sys
from types import SimpleNamespace

import pytest

from trl_mm.eval import amber_nouns
from trl_mm.eval.amber_nouns import load_similarity, nouns


TAGS = {"Dogs": "NNPS", "cats": "NNS"}


class Doc:
    def __init__(self, word):
        self.word, self.vector_norm = word, float(word != "unknown")

    def similarity(self, other):
        return 0.9 if {self.word, other.word} <= {"cup", "mug"} else 0.8


def load(name):
    if name == "missing":
        raise OSError("no such pipeline")
    vectors = [] if name == "empty" else [1]
    return SimpleNamespace(make_doc=Doc, meta={"version": "3.8.0"}, vocab=SimpleNamespace(vectors=vectors))


@pytest.fixture
def spacy(monkeypatch):
    monkeypatch.setitem(sys.modules, "spacy", SimpleNamespace(load=load))


def test_words_above_the_threshold_are_similar(spacy):
    similar, name = load_similarity(None)
    assert name == "en_core_web_lg 3.8.0"
    assert similar("cup", "mug")
    assert not similar("cup", "dog")  # 0.8 is not above
    assert not similar("cup", "unknown")


@pytest.mark.parametrize("name", ["missing", "empty"])
def test_bad_vectors_are_named(spacy, name):
    with pytest.raises((OSError, ValueError), match=f"`amber_vectors='{name}'`"):
        load_similarity(name)


def test_without_vectors_there_are_none(spacy, monkeypatch):
    assert load_similarity("none") == (None, None)
    monkeypatch.setattr(amber_nouns, "VECTORS", "missing")
    assert load_similarity(None) == (None, None)
    monkeypatch.setitem(sys.modules, "spacy", None)
    assert load_similarity(None) == (None, None)
    with pytest.raises(ImportError, match=r"pip install trl-mm\[amber\]` and `python -m spacy download x"):
        load_similarity("x")


def test_nouns_are_lemmas_with_their_places(monkeypatch):
    monkeypatch.setattr(amber_nouns, "word_tokenize", str.split)
    monkeypatch.setattr(
        amber_nouns, "tagged", lambda words: [(word, "NNS" if word[-1] == "s" else "VB") for word in words]
    )
    monkeypatch.setattr(amber_nouns, "lemma", lambda word: word.rstrip("s"))
    assert nouns("Dogs run to cats") == [("Dog", 0, 4), ("cat", 12, 16)]
