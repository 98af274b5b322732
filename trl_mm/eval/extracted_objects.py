"""Objects that a language model finds in an answer, and which of COCO's they are, as Object HalBench does it."""

import json
import re
from collections.abc import Iterable, Sequence

from .published_chair import MERGED, PublishedVocabulary
from .word_forms import lemma, noun_forms, tagged, word_tokenize


FENCED = re.compile(r"```(?:json)?\s*(\[.*?\])\s*```", re.DOTALL)
LEMMAS = {"men": "man"}  # as spaCy has it; to WordNet "men" is a word of its own
SHORT = 3  # answers of so many words name nothing, and are not shown to the extractor


class RefinedVocabulary(PublishedVocabulary):
    """
    The list of synonyms of Object HalBench. The only changes w.r.t. [`PublishedVocabulary`] are that all its names of
    two words are read as one, that words of reference captions are lemmas of WordNet as if all were nouns, and that
    it takes names of objects, too.

    Args:
        synonyms (`Sequence[Sequence[str]]`):
            As [`read_synonyms`] gives them; spaces around names do not matter here.
    """

    def __init__(self, synonyms: Sequence[Sequence[str]]):
        super().__init__([[name.strip() for name in names] for names in synonyms])
        pairs = [name for name in self._meaning if len(name.split()) == 2]
        rules = {pair: word for pair, word in MERGED.items() if pair != word}
        self._merged = {**{pair: pair for pair in (*pairs, "home plate", "train track")}, **rules}
        self._forms = noun_forms

    def words(self, names: Iterable[str]) -> list[str]:
        """
        The words of COCO in names of objects, each once (`list[str]`). "a wooden dining table" is a dining table; of
        other names the nouns count, those beside one another as one, so that a "table lamp" is no table.
        """
        found = dict.fromkeys(word for name in names for word in self._words_of(name.lower()))
        if {"toilet", "seat"} <= found.keys():
            del found["seat"]
        return [word for word in found if word in self._meaning]

    def _words_of(self, name: str) -> list[str]:
        tokens = word_tokenize(f"a {name}")
        lemmas, pairs, index = [LEMMAS.get(token) or lemma(token) for token in tokens], [], 0
        while index < len(lemmas):
            merged = self._merged.get(" ".join(lemmas[index : index + 2]))
            pairs += [] if merged is None else [merged]
            index += 1 if merged is None else 2
        if pairs:
            return pairs
        nouns = [word if tag.startswith("NN") else "\n" for word, (_, tag) in zip(lemmas, tagged(tokens), strict=True)]
        return [run for part in " ".join(nouns).split("\n") if (run := part.strip())]


def extraction_request(question: str, answer: str) -> str:
    """What the extractor is asked (`str`): the visible objects that an answer names, as a JSON list."""
    return (
        "Somebody was asked about a picture. Take the answer to be right, and list the objects that can be seen in "
        f"the picture according to it.\n\n### Question\n{question}\n\n### Answer\n{answer}\n\n### How to list them\n"
        "- Only objects that the answer itself names.\n"
        "- Only the name of each object, without anything that describes it: no colour, material, size or number.\n"
        '- Be exact. Reply with a JSON list and nothing else: ["object", "another object"].\n'
        "- If the answer names no visible object, reply with []."
    )


def is_short(answer: str) -> bool:
    """Whether an answer is too short to name an object, by the published rule (`bool`)."""
    return len(answer.split()) <= SHORT


def read_objects(reply: str | None) -> list[str] | None:
    """
    Reads a reply of the extractor: a list in a fence, or on its last line, or all of it.

    Args:
        reply (`str`, *optional*):
            The reply.

    Returns:
        `list[str]`: names of objects; `None` where there is no list of texts.
    """
    if reply is None:
        return None
    fenced = FENCED.search(reply)
    for text in (fenced[1] if fenced else "", reply.strip().split("\n")[-1], reply):
        try:
            names = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(names, list) and all(isinstance(name, str) for name in names):
            return names
    return None
