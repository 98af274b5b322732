"""
How the published CHAIR finds objects in a caption (Rohrbach et al., EMNLP 2018). The only change w.r.t.
[`ObjectVocabulary`] is how: words are brought to their base form one by one and looked up in the authors' synonyms.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from ..data.object_vocabulary import Mention
from .word_forms import singular_forms, spans, wordnet_forms


# Two words that are read as one, and what that is. Those that are no synonym of anything, such as "train track", take
# the object out that their words would name.
PAIRS = (
    "motor bike, motor cycle, air plane, traffic light, street light, traffic signal, stop light, fire hydrant, "
    "stop sign, parking meter, suit case, sports ball, baseball bat, baseball glove, tennis racket, wine glass, "
    "hot dog, cell phone, mobile phone, teddy bear, hair drier, potted plant, laptop computer, home plate, train track"
).split(", ")
ANIMALS = ("bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "animal", "cub")
MERGED = {
    **{pair: pair for pair in PAIRS},
    **{f"{age} {animal}": animal for age in ("baby", "adult") for animal in ANIMALS},
    "passenger jet": "jet",
    "passenger train": "train",
    "bow tie": "tie",
    "toilet seat": "toilet",
    "wine glas": "wine glass",  # what the singular of "wine glass" is to `pattern.en`
}


class Named(NamedTuple):
    """A word of a caption in its base form (`str`), the object that it names (`str`), and where it stands."""

    word: str
    object: str
    start: int
    end: int


class PublishedVocabulary:
    """
    Finds the objects that a caption names as the published script does, or as the copy of it that OPERA and papers
    after it use. Quirks that figures depend on are kept: `pattern.en` has a singular for singular words too, so that
    "bus" is "bu" and names nothing, while "buses" do; pairs of words are merged from left to right; "seat" is no chair
    in a caption that has a toilet.

    Args:
        synonyms (`Sequence[Sequence[str]]`):
            For each object its name and then its other names, as [`read_synonyms`] gives them. A name in two of them
            stands for the later object, as in the script.
        reading (`str`, *optional*, defaults to `"singularize"`):
            How words are brought to their base form: `"singularize"`, by the rules of `pattern.en`, as in the
            original; or `"wordnet"`, by NLTK's tagger and WordNet, as in OPERA's copy.

    Raises:
        ValueError: there is no object, or no such reading.
    """

    def __init__(self, synonyms: Sequence[Sequence[str]], reading: str = "singularize"):
        if reading not in READINGS:
            raise ValueError(f"`reading` must be one of {', '.join(READINGS)}, got {reading!r}.")
        self.objects = tuple(dict.fromkeys(names[0] for names in synonyms))
        if not self.objects:
            raise ValueError("The list of synonyms is empty: it needs at least one object.")
        self._forms, self._merged = READINGS[reading], MERGED
        self._meaning = {name: names[0] for names in synonyms for name in names}

    def named(self, text: str) -> list[Named]:
        """The words of a text that name objects (`list[Named]`), in its order, each as often as it stands there."""
        text = text.replace("İ", "I").lower()  # lower() makes two letters of this one, which would shift the rest
        words = self._words(text)
        seated = {"toilet", "seat"} <= {word for word, _, _ in words}
        return [
            Named(word, self._meaning[word], start, end)
            for word, start, end in words
            if word in self._meaning and not (seated and word == "seat")
        ]

    def mentions(self, text: str) -> list[Mention]:
        """The objects that a text names (`list[Mention]`), as [`ObjectVocabulary.mentions`] gives them."""
        return [Mention(found.object, found.start, found.end) for found in self.named(text)]

    def object_of(self, name: str) -> str | None:
        """The object that a name in its base form stands for (`str`), or `None`."""
        return self._meaning.get(name)

    def length(self, text: str) -> int:
        """Words and marks of a text, a merged pair being one (`int`)."""
        return len(self._words(text.lower()))

    def _words(self, text: str) -> list[tuple[str, int, int]]:
        tokens, forms = self._forms(text)
        places = spans(text, tokens)
        words, index = [], 0
        while index < len(forms):
            merged = self._merged.get(" ".join(forms[index : index + 2]))
            last = index if merged is None else index + 1
            words.append((merged or forms[index], places[index][0], places[last][1]))
            index = last + 1
        return words


def read_synonyms(path: str | Path) -> list[list[str]]:
    """
    Reads a list of objects in the format of the authors' `synonyms.txt`: a line per object, its name and then its
    other names, with a comma and a space between them. A name with another space before it, as two have there, is
    never found. Lines that start with `#` or `!` are passed over, so that our own list can be read too.

    Args:
        path (`str` or `Path`):
            Text file in UTF-8.

    Returns:
        `list[list[str]]`: for each object its names.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no text, or holds no object.
    """
    cure = "Give the authors' list (data/synonyms.txt of LisaAnne/Hallucination) or one in its format."
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"`synonyms` ({path}) is not text in UTF-8 ({error}). {cure}") from error
    except OSError as error:
        raise OSError(f"`synonyms` ({path}) cannot be read: {error}. {cure}") from error
    synonyms = [line.strip().split(", ") for line in lines if line.strip() and not line.startswith(("#", "!"))]
    if not synonyms:
        raise ValueError(f"`synonyms` ({path}) names no object. {cure}")
    return synonyms


# From a text to its tokens and their base forms
READINGS: dict[str, Callable[[str], tuple[list[str], list[str]]]] = {
    "singularize": singular_forms,
    "wordnet": wordnet_forms,
}
