"""Which words two texts do not share."""

import re
from difflib import SequenceMatcher


Span = tuple[int, int]

_PUNCTUATION = (
    r"!-&(-,./:-@\[-`{-~¡«»¿‘“”„…–—。、，．！？；：（）「」『』《》【】।؟،؛"  # not ' and -, which join words
)
_UNSPACED = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Chinese and Japanese
WORD = re.compile(rf"[{_UNSPACED}]|[^\s{_PUNCTUATION}{_UNSPACED}]+")
_TOKEN = re.compile(rf"{WORD.pattern}|[{_PUNCTUATION}]")


def word_differences(left: str, right: str) -> tuple[list[Span], list[Span], float]:
    """
    Compare two texts word by word. Punctuation marks are words of their own here, and so is each character of Chinese
    and Japanese, which are written without spaces.

    Args:
        left (`str`):
            A text.
        right (`str`):
            Another one.

    Returns:
        `(list[(int, int)], list[(int, int)], float)`:
            What only `left` has and what only `right` has, as spans of characters in order, and the share of words in
            common, in [0, 1]; 1.0 if neither has words.
    """
    tokens = [list(_TOKEN.finditer(text)) for text in (left, right)]
    # With its default for long texts, by which no match begins at a word that is everywhere: two texts of thousands of
    # equal words would take minutes without it.
    first, second = ([token[0] for token in side] for side in tokens)
    matcher = SequenceMatcher(None, first, second)
    spans: tuple[list[tuple[int, int]], list[tuple[int, int]]] = ([], [])
    for kind, *bounds in matcher.get_opcodes():
        if kind != "equal":
            for side, found, start, end in zip(tokens, spans, bounds[::2], bounds[1::2], strict=True):
                if start < end:
                    found.append((side[start].start(), side[end - 1].end()))
    return *spans, matcher.ratio()
