import sys
import types

import numpy as np
import pytest

from trl_mm.bdhs.similarity import make_similarity


def test_lexical_similarity_counts_shared_words_in_order():
    lexical = make_similarity("lexical")
    assert lexical(["a b c d", "a b", "x", ""], ["a b c d", "c d", "a b", "a"]) == [1.0, 0.0, 0.0, 0.0]
    assert lexical(["a b c d"], ["a b x d"]) == [0.75]


def test_a_function_is_taken_as_it_is():
    assert make_similarity(max) is max


def test_embeddings_are_compared_by_cosine(monkeypatch):
    class Model:
        def __init__(self, name, device):
            assert (name, device) == ("some/path", "cpu")

        def encode(self, texts, normalize_embeddings, show_progress_bar):
            assert normalize_embeddings
            return np.array([[1.0, 0.0], [0.6, 0.8], [1.0, 0.0], [0.0, 1.0]])[: len(texts)]

    monkeypatch.setitem(sys.modules, "sentence_transformers", types.SimpleNamespace(SentenceTransformer=Model))
    assert make_similarity("some/path", "cpu")(["a", "b"], ["c", "d"]) == pytest.approx([1.0, 0.8])


def test_a_missing_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ImportError, match=r"trl-mm\[bdhs\].*similarity='lexical'"):
        make_similarity("sentence-transformers/all-mpnet-base-v2")


def test_a_model_that_cannot_be_loaded_names_the_ways_out(monkeypatch):
    def fail(name, device):
        raise OSError("no such model.")

    monkeypatch.setitem(sys.modules, "sentence_transformers", types.SimpleNamespace(SentenceTransformer=fail))
    with pytest.raises(ValueError, match="cannot be loaded: no such model.*similarity='lexical'"):
        make_similarity("some/path")
