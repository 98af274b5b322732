"""What AMBER's script takes from texts: nouns by NLTK, and which words are similar, by vectors of spaCy."""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

from .word_forms import lemma, spans, tagged, word_tokenize


VECTORS = "en_core_web_lg"
SIMILARITY = 0.8
INSTALL = "run `pip install trl-mm[amber]` and `python -m spacy download {name}`"


class Noun(NamedTuple):
    """Lemma of a noun (`str`), and where it stands in the text."""

    lemma: str
    start: int
    end: int


def nouns(text: str) -> list[Noun]:
    """
    Lemmas of the nouns of a text (`list[Noun]`). They are not put into lower case: "Sky is blue." has none that AMBER
    knows, as in the script.

    Raises:
        ImportError: NLTK is not installed.
        OSError: its data are not.
    """
    tokens = word_tokenize(text)
    places = spans(text, tokens)
    return [
        Noun(lemma(token), *place)
        for (token, tag), place in zip(tagged(tokens), places, strict=True)
        if tag.startswith("NN")
    ]


def load_similarity(name: str | None) -> tuple[Callable[[str, str], bool] | None, str | None]:
    """
    Loads the vectors by which words are similar (cosine above 0.8).

    Args:
        name (`str`, *optional*):
            Pipeline of spaCy. `None` takes the published one, `en_core_web_lg`, where it is installed; `"none"` none.

    Returns:
        `tuple[Callable[[str, str], bool] | None, str | None]`: whether two words are similar, and the name and
        version of the vectors; `None` for both without vectors.

    Raises:
        OSError: there is no such pipeline.
        ImportError: spaCy is not installed, and a pipeline was asked for.
        ValueError: the pipeline has no vectors.
    """
    if name == "none":
        return None, None
    wanted = name or VECTORS
    try:
        import spacy

        pipeline = spacy.load(wanted)
    except ImportError as error:
        if name is None:
            return None, None
        raise ImportError(f"`amber_vectors={name!r}` needs spaCy: {INSTALL.format(name=name)}.") from error
    except OSError as error:
        if name is None:
            return None, None
        raise OSError(f"`amber_vectors={name!r}` is not installed: {INSTALL.format(name=name)}.") from error
    if not len(pipeline.vocab.vectors):
        raise ValueError(f"`amber_vectors={name!r}` has no word vectors: take {VECTORS}.")
    make_doc = cache(pipeline.make_doc)  # vectors need no more of the pipeline than its tokens

    @cache
    def similar(word: str, other: str) -> bool:
        one, two = make_doc(word), make_doc(other)
        return bool(one.vector_norm and two.vector_norm) and one.similarity(two) > SIMILARITY

    return similar, f"{wanted} {pipeline.meta.get('version', '')}".strip()
