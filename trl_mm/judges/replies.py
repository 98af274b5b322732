"""
An annotator's free text to the response it prefers, strictly: an unreadable reply costs a pair, a wrong verdict trains
on a wrong one.

A verdict must be said in one of a few plain patterns (`SAYS`), or shown by what one response does better (`SHOWS`),
where nothing else speaks for the other one. Everything else that speaks of a better response (denied,
doubted, asked, limited, conceded, or said in other words) is only a hint: it gives no verdict, but it makes a reply
unreadable that it does not agree with.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from . import reply_patterns as patterns


TIE = "tie"

_BOTH = {"1", "2"}
_OTHER = {"1": "2", "2": "1"}
_CHOICES: dict[str, int | str] = {"1": 0, "2": 1, TIE: TIE}


@dataclass
class Reading:
    """What is said, shown and hinted at to be better, and what is praised otherwise: each `"1"`, `"2"` or `"tie"`."""

    said: set[str] = field(default_factory=set)
    shown: set[str] = field(default_factory=set)
    hinted: set[str] = field(default_factory=set)
    praised: set[str] = field(default_factory=set)

    def choice(self) -> str | None:
        """The one that all agree on, or `None`."""
        if self.said:
            found, others = self.said, self.shown | self.hinted
        else:
            found, others = self.shown, self.hinted | self.praised
        (best,) = found if len(found) == 1 else (None,)
        return best if others <= found else None


def read_reply(text: str) -> int | str | None:
    """
    Which of the two responses shown a reply prefers.

    Args:
        text (`str`): what the annotator wrote.

    Returns:
        `int`, `str` or `None`: 0 for Response 1, 1 for Response 2, `"tie"`, or `None` where the reply names none or
        both, or leaves a doubt.
    """
    sentences = _sentences(text)
    reading = Reading()
    for sentence in sentences:
        _read_sentence(sentence, reading, alone=len(sentences) == 1)
    choice = reading.choice()
    return choice and _CHOICES[choice]


def _sentences(text: str) -> list[str]:
    """Sentences in lower case with their end marks, every name of a response as `response 1` or `response 2`."""
    text = text.lower().rpartition("</think>")[2].replace("’", "'")
    if "<think>" in text:  # cut off before its verdict
        return []
    text = re.sub(r"[*_#>`\"“”\[\]()]", "", text)
    text = re.sub(r"[ \t]*:[ \t]*", ": ", text)
    text = re.sub(r"\b(?:the )?(?:(first|1st)|second|2nd) (?:response|answer|reply)\b", _named, text)
    text = re.sub(r"\b(?:response|answer|reply)[ \t]*[-#]?[ \t]*(?:(1|one)|2|two)\b", _named, text)
    text = re.sub(r"\b(response [12])'s (?:response|answer|reply|description|caption|account)\b", r"\1", text)
    sentences = [" ".join(sentence.split()) for sentence in re.split(r"(?<=[.!?;])\s+|\n+", text)]
    return [sentence for sentence in sentences if sentence]


def _named(match: re.Match[str]) -> str:
    return f"response {1 if match[1] else 2}"


def _read_sentence(sentence: str, reading: Reading, alone: bool) -> None:
    asks = sentence.endswith("?")
    text = patterns.COMPARED.sub("than that", sentence.rstrip(".!?; "))
    if reading.shown and patterns.TURNS.match(text):
        reading.praised |= _BOTH
    if patterns.RETRACTS.search(text):
        reading.hinted |= _BOTH
    text = patterns.OPENING.sub("", text)
    text = patterns.ORDINAL.sub(lambda match: f"{match[1]}response {1 if match[2] else 2}", text)
    if patterns.SAYS_TIE.match(text) and not asks:
        reading.said.add(TIE)
        return
    if bare := patterns.BARE.match(text):
        is_heading = not alone and not sentence.endswith((".", "!"))
        (reading.hinted if asks or is_heading else reading.said).add(bare[1])
    spans = [_read_match(text, *found, asks, reading) for found in _matches(text)]
    for match in patterns.HINT.finditer(text):
        if not any(start <= match.start() < end for start, end in spans):
            reading.hinted |= _hint(text, match, asks)
    reading.praised |= {match[1] for match in patterns.PRAISE.finditer(text)}


def _matches(text: str) -> Iterator[tuple[re.Match[str], bool, bool]]:
    """Matches of all patterns, whether the response that one names is better, and whether that is only shown."""
    for found, only_shown in ((patterns.SAYS, False), (patterns.SHOWS, True)):
        for pattern, better in found:
            for match in pattern.finditer(text):
                yield match, better, only_shown


def _read_match(
    text: str, match: re.Match[str], better: bool, only_shown: bool, asks: bool, reading: Reading
) -> tuple[int, int]:
    """Take down what a match means where it stands, and return its span."""
    number = match[1] if better else _OTHER[match[1]]
    before = patterns.I_SAY.sub("", text[: match.start(1)].removesuffix("response "))
    clause = patterns.CLAUSE.split(f"{before}response ")[-1].removesuffix("response ")
    behind = text[match.end() :]
    doubted = any(pattern.search(before) for pattern in (patterns.CONDITION, patterns.DISCLAIMS))
    revoked = match.end() > match.end(1) and patterns.REVOKES.match(behind)
    if asks or doubted or revoked or patterns.DOUBTS.search(clause):
        reading.hinted |= _BOTH
    elif patterns.DENIES.search(clause):
        reading.hinted.add(_OTHER[number])
    elif (
        patterns.CONCEDES.search(before)
        or patterns.FRONTED_LIMIT.search(before)
        or patterns.LIMITED.match(behind)
        or (only_shown and patterns.SHOWS_LIMITED.search(behind))
    ):
        reading.hinted.add(number)
    else:
        (reading.shown if only_shown else reading.said).add(number)
    return match.span()


def _hint(text: str, match: re.Match[str], asks: bool) -> set[str]:
    before = text[: match.start()]
    named = match[3] or (re.findall(patterns.NAMED, before) or [None])[-1]
    denied = bool(patterns.DENIED_JUST_BEFORE.search(before))
    if named is None:  # "It is more accurate" only explains
        return _BOTH if denied or re.search(r"\b(?:former|latter|other)\b", before) else set()
    if asks or patterns.CONDITION.search(before):
        return _BOTH
    return {_OTHER[named] if denied != bool(match["worse"]) else named}
