"""Whether a rewriting may stand as a rejected answer."""

import re

from ..data.pair_statistics import count_words
from ..data.refusals import is_refusal
from .config import CorruptionConfig


# Why a rewriting is refused, as the model is told
REASONS = {
    "empty": "it was empty.",
    "equal": "it was the correct answer itself.",
    "refusal": "it was no answer but a refusal.",
    "comment": "it spoke about the task, or repeated its headings.",
    "too short": "it was much shorter than the correct answer.",
    "too long": "it was much longer than the correct answer.",
    "too similar": "it said the same as the correct answer.",
    "unlike": "it was another answer, not the correct one with some details changed.",
}

_COMMENT = re.compile(
    r"(?:sure|certainly|of course|okay|ok)\b[,!:.]"
    r"|here(?:'s| is| are)\b[^.\n]*\b(?:answer|version|rewrit\w*|mistakes?)\b"
    r"|(?:the |a )?(?:re-?written|corrupted|modified|altered|incorrect|wrong|new)\s+(?:answer|version|response)\b",
    re.IGNORECASE,
)
_WITHIN = re.compile(
    r"\[(?:answer with mistakes|correct answer|question)\]|\(changed\b|\bmistakes? (?:is|are|made)\b", re.IGNORECASE
)
_SPACE = re.compile(r"\s+")
_QUOTED = re.compile(r'"([^"]*)"|“([^”]*)”')


def cleaned(reply: str) -> str:
    """A reply (`str`) without white space and quotation marks around it, which models like to add."""
    text = reply.strip()
    quoted = _QUOTED.fullmatch(text)
    return (quoted[1] or quoted[2] or "").strip() if quoted else text


def fault(chosen: str, rewriting: str, config: CorruptionConfig) -> str | None:
    """
    Why a rewriting is refused, as far as its text alone shows.

    Args:
        chosen (`str`): the chosen answer.
        rewriting (`str`): what the model made of it.
        config ([`CorruptionConfig`]): the limits.

    Returns:
        `str` or `None`: key of `REASONS`. A beginning that the chosen answer has, too, ("Sorry", "Sure") is no fault.
    """
    if not rewriting:
        return "empty"
    if _plain(chosen) == _plain(rewriting):
        return "equal"
    if is_refusal(rewriting) and not is_refusal(chosen):
        return "refusal"
    if (_COMMENT.match(rewriting) or _WITHIN.search(rewriting)) and not (
        _COMMENT.match(chosen.strip()) or _WITHIN.search(chosen)
    ):
        return "comment"
    words, least = count_words(rewriting), config.least_length * count_words(chosen)
    # "There are three." may become "Four."
    if words < min(least, count_words(chosen) - 3):
        return "too short"
    if words > max(config.most_length * count_words(chosen), count_words(chosen) + 3):
        return "too long"
    return None


def fault_of_similarity(similarity: float, config: CorruptionConfig) -> str | None:
    """Why a rewriting is refused for its similarity to the chosen answer (key of `REASONS`), `None` if it is not."""
    if similarity > config.most_similarity:
        return "too similar"
    return "unlike" if similarity < config.least_similarity else None


def _plain(text: str) -> str:
    return _SPACE.sub(" ", text).strip().strip(".").casefold()
