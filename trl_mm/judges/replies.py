"""
An annotator's free text to the response it prefers, strictly: an unreadable reply costs a pair, a wrong verdict trains
on a wrong one.

A verdict must be said in one of a few plain patterns (`_SAYS`). Everything else that speaks of a better response
(denied, doubted, asked, limited, or said in other words) is only a hint: it gives no verdict, but it makes a reply
unreadable that it does not agree with.
"""

import re


TIE = "tie"

_BOTH = {"1", "2"}
_OTHER = {"1": "2", "2": "1"}
_CHOICES = {"1": 0, "2": 1, TIE: TIE}
_R = r"\bresponse ([12])\b(?!\.\d)"
_DEGREE = r"(?:accurate|faithful|truthful|correct|reliable)"
_BETTER = rf"(?:better|best|superior|preferred|preferable|winner|(?:more|most) {_DEGREE})\b"
_WORSE = rf"(?:worse|worst|inferior|(?:less|least) {_DEGREE})\b"
_IS = (
    r" (?:is|was|seems|appears|looks) (?:to be )?"
    r"(?:(?:the|a|much|far|clearly|slightly|definitely|also|overall|therefore|thus|still|bit|little) )*"
)
_LABEL = (
    r"(?:the |my |final |overall )*"
    r"(?:better|best|preferred|winner|verdict|choice|preference|decision|answer|judge?ment)"
    r"(?: response| answer| one| choice)?(?: is:?|:| -| =) "
)
_PICK = r"(?:prefer|choose|pick|select|favou?r|go with)"
_OR_ANOTHER = r" *(?:[,/|&]|or\b|and\b|vs\b) *(?:or |and )*(?:a tie|tie|response|[12]\b)"

# Pattern of a sentence, and whether the response that it names is better (True) or worse
_SAYS = [
    (re.compile(rf"^{_LABEL}{_R}(?!{_OR_ANOTHER})"), True),
    (re.compile(rf"{_R}{_IS}{_BETTER}"), True),
    (re.compile(rf"{_R}{_IS}{_WORSE}"), False),
    (re.compile(rf"\bi (?:would )?(?:\w+ly )?{_PICK} {_R}(?!{_OR_ANOTHER})"), True),
]
_BARE = re.compile(rf"^{_R}(?=$|,? because\b)")  # the name alone
_SAYS_TIE = re.compile(
    rf"^(?:(?:{_LABEL})?(?:it is |it's |this is )?(?:an? )?(?:tie|draw)"
    r"|(?:both|the two|both the|responses 1 and 2)(?: responses| answers)? are equally (?:good|bad|accurate|faithful)"
    r"|neither(?: response| answer| one)? is better)$"
)
# What else speaks of a better or worse response
_HINT = re.compile(rf"\b(?P<better>{_BETTER}|wins\b)|\b(?P<worse>{_WORSE}|loses\b)|\b{_PICK} {_R}")
_DENIES = re.compile(r"\b(?:not|never|hardly|barely|cannot|don't|no)\b|n't\b")
_DOUBTS = re.compile(
    r"\b(?:either|neither|n?or|none|unclear|unsure|hard|difficult|might|may|could|should|perhaps|possibly|maybe|deny"
    r"|doubt\w*|wrong|false|incorrect|untrue|says?|said|claims?|states?|argues?|former|latter|other)\b"
)
_DENIED_JUST_BEFORE = re.compile(
    r"(?:\b(?:not|never|hardly|barely|cannot|no|neither)|n't)(?: (?!and\b|but\b)\w+){0,4} $"
)
_CONDITION = re.compile(r"\b(?:if|unless|whether|suppose|assuming)\b")
_LIMITED = re.compile(r"^,? (?:only|if|unless|when|except|in|at|for|on)\b")
# Where a part of a sentence begins that a "not" before it does not deny
_CLAUSE = re.compile(
    r",? (?:so|therefore|thus|hence|(?<!not )because|since|but|while|whereas|and(?! that)) |[,:] (?=response)"
)


def read_reply(text):
    """
    Which of the two responses shown a reply prefers.

    Args:
        text (`str`): what the annotator wrote.

    Returns:
        `int`, `str` or `None`: 0 for Response 1, 1 for Response 2, `"tie"`, or `None` where the reply names none or
        both, or leaves a doubt.
    """
    sentences = _sentences(text)
    said, hinted = set(), set()
    for sentence in sentences:
        verdicts, hints = _read_sentence(sentence, alone=len(sentences) == 1)
        said |= verdicts
        hinted |= hints
    return _CHOICES[said.pop()] if len(said) == 1 and hinted <= said else None


def _sentences(text):
    """Sentences in lower case with their end marks, every name of a response as `response 1` or `response 2`."""
    text = text.lower().rpartition("</think>")[2].replace("’", "'")
    if "<think>" in text:  # cut off before its verdict
        return []
    text = re.sub(r"[*_#>`\"“”\[\]()]", "", text)
    text = re.sub(r"[ \t]*:[ \t]*", ": ", text)
    text = re.sub(r"\b(?:the )?(?:(first|1st)|second|2nd) (?:response|answer|reply)\b", _named, text)
    text = re.sub(r"\b(?:response|answer|reply)[ \t]*[-#]?[ \t]*(?:(1|one)|2|two)\b", _named, text)
    sentences = [" ".join(sentence.split()) for sentence in re.split(r"(?<=[.!?;])\s+|\n+", text)]
    return [sentence for sentence in sentences if sentence]


def _named(match):
    return f"response {1 if match[1] else 2}"


def _read_sentence(sentence, alone):
    """What a sentence says, and what it hints at: two sets of `"1"`, `"2"`, `"tie"`."""
    asks = sentence.endswith("?")
    # Whom the better one is compared with is not what is said to be better
    text = re.sub(r" (?:(?:rather )?than|over|to) response [12]\b", " than that", sentence.rstrip(".!?; "))
    if _SAYS_TIE.match(text) and not asks:
        return {TIE}, set()
    said, hinted, spans = set(), set(), []
    if bare := _BARE.match(text):
        is_heading = not alone and not sentence.endswith((".", "!"))
        (hinted if asks or is_heading else said).add(bare[1])
    for pattern, better in _SAYS:
        for match in pattern.finditer(text):
            spans.append(match.span())
            number = match[1] if better else _OTHER[match[1]]
            clause = _CLAUSE.split(text[: match.start(1)])[-1]
            if asks or _DOUBTS.search(clause) or _CONDITION.search(text[: match.start()]):
                hinted |= _BOTH
            elif _DENIES.search(clause):
                hinted.add(_OTHER[number])
            elif _LIMITED.match(text[match.end() :]):
                hinted.add(number)
            else:
                said.add(number)
    for match in _HINT.finditer(text):
        if not any(start <= match.start() < end for start, end in spans):
            hinted |= _hint(text, match, asks)
    return said, hinted


def _hint(text, match, asks):
    before = text[: match.start()]
    named = match[3] or (re.findall(_R, before) or [None])[-1]
    denied = bool(_DENIED_JUST_BEFORE.search(before))
    if named is None:  # "It is more accurate" only explains
        return _BOTH if denied or re.search(r"\b(?:former|latter|other)\b", before) else set()
    if asks or _CONDITION.search(before):
        return _BOTH
    return {_OTHER[named] if denied != bool(match["worse"]) else named}
