"""Words of English texts and their base forms, as the scripts of CHAIR, AMBER and Object HalBench make them."""

import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from ..data.shown import shown


# After a full stop and up to two marks that close what it stands in, before white space; and before marks that go on
SENTENCE_END = re.compile(
    r"""(?<=[.!?])\s+|(?<=[.!?]["')\]}])\s+|(?<=[.!?]["')\]}]["')\]}])\s+|(?<=[.!?])(?=[*;:@({\[]|["')\]}]+[,;:*])"""
)
# First letter of a tag of the Penn Treebank to the part of speech in WordNet; anything else is taken for a noun
WORDNET_PARTS = {"J": "a", "V": "v", "N": "n", "R": "r"}
MISSING = "Published readings of answers need NLTK and TextBlob: install them with `pip install trl-mm[chair]`."


def tokenize(text: str) -> list[str]:
    """
    Splits a text as `nltk.word_tokenize` does: into sentences, and these into the tokens of the Penn Treebank. NLTK
    finds the sentences with a model that has to be downloaded. Here every full stop before white space ends one, also
    that of an abbreviation: on descriptions of images the objects found are the same.

    Args:
        text (`str`):
            An answer.

    Returns:
        `list[str]`: words and marks; a full stop is a token at the end of a sentence only.

    Raises:
        ImportError: NLTK is not installed.
    """
    tokenizer = _tokenizer()
    return [token for sentence in SENTENCE_END.split(text) for token in tokenizer.tokenize(sentence)]


def word_tokenize(text: str) -> list[str]:
    """
    `nltk.word_tokenize` itself (`list[str]`).

    Raises:
        ImportError: NLTK is not installed.
        OSError: its model of sentences is not.
    """
    return _with_data(_nltk().word_tokenize, text)


def spans(text: str, tokens: Sequence[str]) -> list[tuple[int, int]]:
    """
    Where tokens stand in the text that they are from.

    Args:
        text (`str`):
            The text.
        tokens (`Sequence[str]`):
            What [`tokenize`] gave.

    Returns:
        `list[tuple[int, int]]`: start and end of each token, in characters; nothing long for one that is not found.
    """
    found, at = [], 0
    for token in tokens:
        at += len(text[at:]) - len(text[at:].lstrip())
        quote = token in ("``", "''")  # what a double quote is made into
        form = '"' if quote and text.startswith('"', at) else token
        start = at if quote else max(at, text.find(form, at))
        at = start + len(form) if text.startswith(form, start) else start
        found.append((start, at))
    return found


def singular_forms(text: str) -> tuple[list[str], list[str]]:
    """
    The tokens of a text, and their singular forms by the rules of `pattern.en`, as TextBlob keeps them.

    Raises:
        ImportError: NLTK or TextBlob is not installed.
    """
    tokens, singular = tokenize(text), _singularize()
    return tokens, [singular(token) for token in tokens]


def wordnet_forms(text: str) -> tuple[list[str], list[str]]:
    """
    The tokens of a text, and their lemmas in WordNet, by the part of speech that NLTK's tagger gives each.

    Raises:
        ImportError: NLTK is not installed.
        OSError: its data are not.
    """
    tokens = word_tokenize(text)
    return tokens, [lemma(token, WORDNET_PARTS.get(tag[:1], "n")) for token, tag in tagged(tokens)]


def noun_forms(text: str) -> tuple[list[str], list[str]]:
    """
    The tokens of a text, and their lemmas in WordNet, each as if it were a noun.

    Raises:
        ImportError: NLTK is not installed.
        OSError: its data are not.
    """
    tokens = word_tokenize(text)
    return tokens, [lemma(token) for token in tokens]


def tagged(tokens: Sequence[str]) -> list[tuple[str, str]]:
    """
    The tokens of a text with their parts of speech, as tags of the Penn Treebank.

    Raises:
        ImportError: NLTK is not installed.
        OSError: its tagger is not.
    """
    return _with_data(_nltk().pos_tag, list(tokens))


def lemma(word: str, part: str = "n") -> str:
    """
    Lemma of a word in WordNet.

    Args:
        word (`str`):
            The word.
        part (`str`, *optional*, defaults to `"n"`):
            Its part of speech: `"n"`, `"v"`, `"a"` or `"r"`.

    Returns:
        `str`: the shortest of the lemmas, or the word itself where WordNet does not know it.

    Raises:
        ImportError: NLTK is not installed.
        OSError: its WordNet is not.
    """
    return _lemmatize()(word, part)


def _with_data(function: Callable[..., Any], *args: Any) -> Any:
    """Calls NLTK; data that it does not find are an error that says how to have them."""
    try:
        return function(*args)
    except LookupError as error:
        raise OSError(
            "NLTK's data are missing: run `python -m nltk.downloader punkt_tab averaged_perceptron_tagger_eng "
            "wordnet` once, or set NLTK_DATA to the folder that has them. (CHAIR's reading `singularize` needs none.) "
            f"NLTK says: {shown(' '.join(str(error).replace('*', '').split()), 200)}"
        ) from error


def _nltk() -> Any:
    try:
        import nltk
    except ImportError as error:
        raise ImportError(MISSING) from error
    return nltk


@cache
def _tokenizer() -> Any:
    _nltk()
    from nltk.tokenize import NLTKWordTokenizer

    return NLTKWordTokenizer()


@cache
def _singularize() -> Callable[[str], str]:
    try:
        from textblob.en.inflect import singularize
    except ImportError as error:
        raise ImportError(MISSING) from error
    return cache(singularize)


@cache
def _lemmatize() -> Callable[[str, str], str]:
    _nltk()
    from nltk.stem import WordNetLemmatizer

    lemmatize = WordNetLemmatizer().lemmatize
    return cache(lambda word, part: _with_data(lemmatize, word, part))
