"""How answers to TextVQA are normalised and scored: MMF's scorer, which LLaVA's evaluation uses too."""

import re
from collections import Counter
from collections.abc import Sequence


def normalized_answer(answer: str) -> str:
    """
    Brings an answer into the form in which it is compared, as `EvalAIAnswerProcessor` of MMF does. Its quirks are
    kept, since the published figures rest on them:

    - Commas and question marks go first of all, so "10,000" is "10000".
    - A mark of punctuation is deleted wherever it stands if it touches a space anywhere in the text, and is a space
      otherwise: "coca-cola" is two words, and "x - y-z" is "x yz".
    - A full stop is dropped unless a digit follows it, also after a digit, and at most 32 of them are (a flag is
      passed as the count).
    - "none" is 0, and of the contractions with a capital letter in the table (Im, Ive) none is ever found.

    Args:
        answer (`str`):
            What the model, or a person, said.

    Returns:
        `str`
    """
    text = answer.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()
    text = text.replace("\n", " ").replace("\t", " ").strip()
    spaced = text
    for mark in PUNCTUATION:
        text = text.replace(mark, "" if f"{mark} " in spaced or f" {mark}" in spaced else " ")
    words = (NUMBERS.get(word, word) for word in FULL_STOP.sub("", text, count=32).split())
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


def textvqa_accuracy(answer: str, references: Sequence[str]) -> float:
    """
    Accuracy of one answer: of each reference in turn, the other ones that agree with the answer are counted, a third
    for each up to one, and the mean over the references is taken.

    Args:
        answer (`str`):
            What the model said.
        references (`Sequence[str]`):
            What people said, ten of them.

    Returns:
        `float`: between 0 and 1; 0 if nobody said so.
    """
    said = Counter(map(normalized_answer, references))
    agree, asked = said[normalized_answer(answer)], len(references)
    # Without one that agrees there is one less to agree with
    return (agree * min(1.0, (agree - 1) / 3) + (asked - agree) * min(1.0, agree / 3)) / asked


FULL_STOP = re.compile(r"(?!<=\d)(\.)(?!\d)")  # MMF's own: the first bracket was to be (?<!\d)
# MMF's list has the comma and the question mark too, of which no text has any by then
PUNCTUATION = tuple(';/[]"{}()=+\\_-><@`!')
NUM_REFERENCES = 10  # of each question as published; of fewer, agreement with all may count for nothing
ARTICLES = frozenset(("a", "an", "the"))
NUMBERS = {
    "none": "0",
    "zero": "0",
    "one": "1",
    "two": "2",
    "three": "3",
    "four": "4",
    "five": "5",
    "six": "6",
    "seven": "7",
    "eight": "8",
    "nine": "9",
    "ten": "10",
}
# What is written out, and the ways to leave apostrophes out that are mended. One of them goes the wrong way.
_WRITTEN = {
    **{f"{word}n't": f"{word}nt" for word in ("ai", "are", "ca", "did", "does", "do", "has", "have", "is")},
    **{f"{word}n't": f"{word}nt" for word in ("must", "need", "ought", "sha", "was", "were", "wo")},
    **{f"{word}n't": f"{word}nt" for word in ("could", "had", "might", "should", "would")},
    **{f"{word}n't've": f"{word}n'tve {word}nt've" for word in ("could", "had", "might", "should", "would")},
    **{f"{word}'d've": f"{word}d've {word}'dve" for word in ("he", "it", "she", "somebody", "someone", "something")},
    **{f"{word}'d've": f"{word}d've {word}'dve" for word in ("there", "they", "we", "who", "you")},
    **{f"{word}'d": f"{word}d" for word in ("he", "how", "it", "someone", "something", "there", "they", "where")},
    **{f"{word}'d": f"{word}d" for word in ("who", "you")},
    **{f"{word}'ll": f"{word}ll" for word in ("how", "it", "somebody", "someone", "something", "they", "what")},
    **{f"{word}'ll": f"{word}ll" for word in ("who", "why", "you")},
    **{f"{word}'re": f"{word}re" for word in ("there", "they", "what", "why", "you")},
    **{f"{word}'s": f"{word}s" for word in ("he", "how", "somebody", "someone", "that", "there", "what", "when")},
    **{f"{word}'s": f"{word}s" for word in ("where", "who", "why")},
    **{f"{word}'ve": f"{word}ve" for word in ("could", "might", "must", "not", "should", "they", "we", "what")},
    **{f"{word}'ve": f"{word}ve" for word in ("where", "who", "would", "you")},
    "ma'am": "maam",
    "o'clock": "oclock",
    "'twas": "twas",
    "'ow's'at": "ow's'at 'ows'at 'ow'sat",
    "somebodyd": "somebody'd",
    "y'all": "yall",
    "y'all'll": "yall'll y'allll",
    "y'all'd've": "yall'd've y'alld've y'all'dve",
}
CONTRACTIONS = {left_out: written for written, ways in _WRITTEN.items() for left_out in ways.split()}
