"""How AMBER scores descriptions and yes-or-no answers (Wang et al., arXiv 2311.07397), as its script does."""

from collections.abc import Callable, Mapping, Sequence, Set
from typing import NamedTuple


# From the types of questions in annotations.json to the dimension and, of attributes, the kind
DIMENSIONS = {
    "discriminative-hallucination": ("existence", ""),
    "discriminative-attribute-state": ("attribute", "state"),
    "discriminative-attribute-number": ("attribute", "number"),
    "discriminative-attribute-action": ("attribute", "action"),
    "discriminative-relation": ("relation", ""),
    "relation": ("relation", ""),
}
# The published names, as they are spelled there
PUBLISHED_NAMES = {
    "existence": "Exsitence",
    "attribute": "Attribute",
    "state": "State",
    "number": "Number",
    "action": "Action",
    "relation": "Relation",
}


class Answered(NamedTuple):
    """A yes-or-no answer: its type in annotations.json, the right answer, and `"yes"`, `"no"` or `None` as said."""

    type: str
    label: str
    said: str | None


class Described(NamedTuple):
    """
    What a description names.

    Args:
        hallucinated (`list[int]`):
            1 for each noun of AMBER's vocabulary that is not in the image, else 0.
        covered (`int`):
            Objects of the image that are named.
        expected (`int`):
            Objects that are not there and that people would expect, which are named.
    """

    hallucinated: list[int]
    covered: int
    expected: int


def describe(
    nouns: Sequence[str],
    truth: Sequence[str],
    hallu: Sequence[str],
    association: Mapping[str, Sequence[str]],
    safe_words: Set[str] = frozenset(),
    similar: Callable[[str, str], bool] | None = None,
) -> Described:
    """
    Scores the nouns of one description. A noun is found among the words associated with the objects first and then
    among the objects. One that is neither there nor in the image counts as hallucinated, also when it is among those
    that people would expect; so does one that is similar to such.

    Args:
        nouns (`Sequence[str]`):
            Lemmas of all nouns.
        truth (`Sequence[str]`):
            Objects in the image.
        hallu (`Sequence[str]`):
            Objects that are not in it, and expected.
        association (`Mapping[str, Sequence[str]]`):
            From an object to words that stand for it, too; its words are the vocabulary.
        safe_words (`Set[str]`, *optional*):
            Words that are never hallucinated.
        similar (`Callable[[str, str], bool]`, *optional*):
            Whether two words mean the same; without it only equal words do.

    Returns:
        [`Described`]
    """
    vocabulary = {*association, *(word for words in association.values() for word in words)}
    in_image, expected = _names(truth, association), _names(hallu, association)
    covered, thought_of, hallucinated = set(), set(), []
    for noun in nouns:
        if noun not in vocabulary:
            continue
        here = None if noun in safe_words else _first(in_image, noun, str.__eq__)
        if noun not in safe_words and here is None:
            thought_of |= {_first(expected, noun, str.__eq__)}
            if similar is not None:
                thought_of |= {_first(expected, noun, similar)}
                here = _first(in_image, noun, similar)
        hallucinated.append(int(noun not in safe_words and here is None))
        covered |= {here}
    return Described(hallucinated, len(covered - {None}), len(thought_of - {None}))


def answer_scores(answers: Sequence[Answered]) -> dict[str, dict[str, float]]:
    """
    The figures of all yes-or-no answers and of each dimension, by their published names. No is the positive class. An
    answer that is neither is wrong, and no part of the precision.

    Args:
        answers (`Sequence[Answered]`):
            The answers.

    Returns:
        `dict[str, dict[str, float]]`: percentages, rounded as the script rounds them. All questions together (its
        "Descriminative Task") stand there when all three dimensions were asked.
    """
    groups: dict[str, list[Answered]] = {}
    for answer in answers:
        for name in filter(None, DIMENSIONS[answer.type]):
            groups.setdefault(name, []).append(answer)
    scores = {}
    if {"existence", "attribute", "relation"} <= groups.keys():
        scores["Descriminative Task"] = _published(answers)
    for name, published in PUBLISHED_NAMES.items():
        if name in groups:
            kinds = 3 if name == "attribute" else 1
            scores[published] = _published(groups[name], kinds, 0.001 if name == "existence" else 0.0001)
    return scores


def _published(answers: Sequence[Answered], kinds: int = 1, epsilon: float = 0.0001) -> dict[str, float]:
    tiny = 0.001 * kinds  # the script's counts start there, and those of attributes are three counts
    right = sum(answer.said == answer.label for answer in answers)
    gold = sum(answer.label == "no" for answer in answers)
    said = sum(answer.said == "no" for answer in answers)
    both = sum(answer.said == answer.label == "no" for answer in answers)
    precision, recall = round(both / (said + tiny) * 100, 1), round(both / (gold + tiny) * 100, 1)
    above = 2 * (precision / 100) * (recall / 100)
    return {
        "Accuracy": round(right / (len(answers) + tiny) * 100, 1),
        "Precision": precision,
        "Recall": recall,
        "F1": round(above / (precision / 100 + recall / 100 + epsilon) * 100, 1),
    }


def _names(objects: Sequence[str], association: Mapping[str, Sequence[str]]) -> list[tuple[str, int]]:
    """Words for objects, each with the index of its object: those associated with them first."""
    associated = [(word, index) for index, name in enumerate(objects) for word in association.get(name, ())]
    return [*associated, *((name, index) for index, name in enumerate(objects))]


def _first(names: Sequence[tuple[str, int]], noun: str, same: Callable[[str, str], bool]) -> int | None:
    return next((index for name, index in names if same(noun, name)), None)
