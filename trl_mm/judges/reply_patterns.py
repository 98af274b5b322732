"""Which wordings of a reply say that a response is better. All are for one sentence in lower case."""

import re


NAMED = r"\bresponse ([12])\b(?!\.\d)"
RESPONSE = rf"{NAMED}(?!'s)"
_DEGREE = r"(?:accurate|faithful|truthful|correct|reliable)"
_BETTER = rf"(?:better|best|superior|preferred|preferable|winner|(?:more|most) {_DEGREE})\b"
_WORSE = rf"(?:worse|worst|inferior|(?:less|least) {_DEGREE})\b"
_THINGS = r"(?:objects|details|things|elements|content|information)\b"
_INVENTED = (
    rf"(?:(?:hallucinated|invented|made-up|fabricated) {_THINGS}|hallucinations?\b|inventions\b|fabrications?\b"
    r"|inaccuracies\b|(?:factual )?(?:errors|mistakes)\b)"
)
_LESS = rf"(?:less|fewer|least|fewest) {_INVENTED}"
_MORE = rf"(?:more|most) {_INVENTED}"
_INVENTS = r"(?:hallucinates|invents|fabricates|hallucinated|invented|fabricated)"
_NO_NOUN = rf"(?: {_THINGS})?(?=$|,| (?:than|because|and|as)\b)"
_SO = (
    r"(?:(?:the|a|an|much|far|clearly|slightly|significantly|definitely|also|overall|therefore|thus|still|bit|little)"
    r" )*"
)
_IS = rf" (?:is|was|seems|appears|looks) (?:to be )?{_SO}"
_CLEARLY = r"(?: (?:clearly|definitely|also|generally|overall|therefore|thus|still|simply|actually))?"
# No "provide" or "contain": "nor does Response 1 provide" would match
_GIVES = r"(?:provides|gives|offers|presents|contains|has|makes|delivers|provided|gave|offered|presented)"
_HAS = r"(?:contains|has|includes|makes|shows|exhibits|introduces|contained|had|included|made)"
_DESCRIBES = r"(?:describes|reflects|represents|depicts|captures|matches|portrays|described|reflected|depicted)"
_TEXT = (
    r"(?:response|answer|reply|description|account|depiction|representation|portrayal|explanation|interpretation"
    r"|summary|caption)"
)
_IMAGE = (
    r"(?:the|this|these) (?:contents? of the |given |provided |actual )?"
    r"(?:images?|pictures?|photos?|scene)(?: contents?)?\b"
)
_AND = r"(?:,|,? and) "
_BETTER_TEXT = (
    rf"(?:better|best|superior|(?:more|most) (?:\w+{_AND})*{_DEGREE}(?:{_AND}\w+)*)"
    rf" {_TEXT}\b(?: (?:of|to|for) (?:{_IMAGE}|(?:the|this) (?:question|request)\b))?"
)
_BETTER_LY = rf"(?:better|best|(?:more|most) {_DEGREE}ly)"
_LABEL = (
    r"(?:the |my |final |overall )*"
    r"(?:better|best|preferred|winner|verdict|choice|preference|decision|answer|judge?ment"
    rf"|(?:more|most) {_DEGREE}|(?:response|answer|one) with {_SO}{_LESS})"
    r"(?: of the two)?(?: responses?| answers?| one| choice| description)?(?: is:?| would be|:| -| =) "
)
_PICK = r"(?:prefer|choose|pick|select|favou?r|go with)"
_OR_ANOTHER = r" *(?:[,/|&]|or\b|and\b|vs\b) *(?:or |and )*(?:a tie|tie|response|[12]\b)"

# Pattern of a sentence, and whether the response that it names is better (True) or worse
SAYS = [
    (re.compile(rf"^{_LABEL}{RESPONSE}(?!{_OR_ANOTHER})"), True),
    (re.compile(rf"{RESPONSE}{_IS}{_BETTER}"), True),
    (re.compile(rf"{RESPONSE}{_IS}{_WORSE}"), False),
    (
        re.compile(
            rf"\bi(?: would| will|'d|'ll)? (?:\w+ly )?{_PICK} {RESPONSE}(?!{_OR_ANOTHER}| to\b| last\b| second\b)"
        ),
        True,
    ),
]
# The same of what speaks for a response without saying that it is better
_BETTER_DEEDS = "|".join(
    [
        rf"{_GIVES} {_SO}{_BETTER_TEXT}",
        rf"(?:does|did) {_SO}(?:better|best) job(?: (?:of |at |in )?describing {_IMAGE})?",
        rf"{_HAS} {_SO}{_LESS}",
        rf"{_INVENTS} {_SO}(?:less|fewer|least|fewest){_NO_NOUN}",
        rf"{_DESCRIBES} {_IMAGE} {_SO}{_BETTER_LY}\b",
        rf"{_SO}{_BETTER_LY} {_DESCRIBES} {_IMAGE}",
    ]
)
_WORSE_DEEDS = rf"{_HAS} {_SO}{_MORE}|{_INVENTS} {_SO}(?:more|most){_NO_NOUN}"
SHOWS = [
    (re.compile(rf"{RESPONSE}{_CLEARLY} (?:{_BETTER_DEEDS})"), True),
    (re.compile(rf"{RESPONSE}{_CLEARLY} (?:{_WORSE_DEEDS})"), False),
    (re.compile(rf"{RESPONSE}{_IS}(?:{_TEXT}|one) (?:with|that {_HAS}) {_SO}{_LESS}"), True),
    (re.compile(rf"\bthere (?:is|are) {_SO}{_LESS} in {RESPONSE}"), True),
]
BARE = re.compile(rf"^{RESPONSE}(?=$|,? because\b)")  # the name alone
ORDINAL = re.compile(rf"^({_LABEL})(?:the )?(?:(first)|second)(?: one)?$")
SAYS_TIE = re.compile(
    rf"^(?:(?:{_LABEL})?(?:it is |it's |this is )?(?:an? )?(?:tie|draw)"
    r"|(?:both|the two|both the|responses 1 and 2)(?: responses| answers)? are equally (?:good|bad|accurate|faithful)"
    r"|neither(?: response| answer| one)? is better)$"
)

# What else speaks of a better or worse response
HINT = re.compile(
    rf"\b(?P<better>{_BETTER}|wins\b|{_LESS})|\b(?P<worse>{_WORSE}|loses\b|{_MORE})|\b{_PICK} {RESPONSE}"
)
# What may speak for a response that is not more faithful
PRAISE = re.compile(
    rf"{NAMED}(?: [\w-]+,?){{1,4}} (?:more|most) (?:\w+{_AND})*"
    r"(?:helpful|concise|detailed|informative|useful|relevant|complete|comprehensive|thorough|specific|precise|clear"
    r"|direct|natural|engaging|readable|succinct)\b"
)

# In front of what is said, in the same part of the sentence
DENIES = re.compile(
    r"\b(?:not|never|hardly|barely|scarcely|rarely|seldom|cannot|don't|no|nobody|nothing|few|far from|fails?|failed)\b"
    r"|n't\b"
)
DOUBTS = re.compile(
    r"\b(?:either|neither|n?or|none|unclear|unsure|uncertain|hard|difficult|might|may|could|should|perhaps|possibly|maybe"
    r"|deny|doubt\w*|wrong|false|incorrect|untrue|unlikely|impossible|mistake to|mistaken|misleading to|questionable"
    r"|debatable|disagree|says?|said|claims?|states?|argues?|wish|hope|hoped|expect|expected|thought|imagine|pretend\w*"
    r"|supposedly|allegedly|former|latter|other)\b"
    r"|\b(?:had|has|have|does|did|were|would) $"
    r"|\b(?:some|others|many|most|people|one|you|they|he|she|response [12]|the user|annotators?)(?: \w+){0,2}"
    r" (?:think|believe|suggest|imply|implie|assert|insist|feel|find|assume|prefer)s?\b"
)
DENIED_JUST_BEFORE = re.compile(
    r"(?:\b(?:not|never|hardly|barely|cannot|no|neither|fails?|failed|without)|n't)(?: (?!and\b|but\b)\w+){0,4} $"
)
# In front of what is said, in any part
CONDITION = re.compile(
    r"\b(?:if|unless|whether|suppose|supposing|assuming|in case|otherwise|at first|first glance"
    r"|according to response)\b|\b(?:says?|said|claims?|states?|argues?|writes|insists?): ?$"
    r"|^(?:were|had|should) |^without (?:the|this|looking|seeing) "
    r"|\b(?:were|had|should) (?:i|we|you|one|it|they|the|this|that)\b"
)
# Whoever speaks of what somebody does not think, or of what others say, speaks of the whole sentence
_NOT_OURS = r"(?:think|thinks|believe|believes|say|says|claim|claims|argue|argues|feel|agree|that)\b"
DISCLAIMS = re.compile(
    r"(?:^|[,:] |\b(?:but|and|so|while|because|since) )(?:"
    r"(?:i|we|one|you|it (?:is|was|seems|would be))\b[^,]*(?:\b(?:not|never|cannot|hardly|doubt\w*|deny|disagree|false"
    rf"|wrong|untrue)\b|n't\b)[^,]*\b{_NOT_OURS}"
    rf"|(?:some|many|most|others|people|they|you|nobody|few)\b[^,]*\b{_NOT_OURS}|i (?:doubt|deny|disagree)\b)"
)
CONCEDES = re.compile(
    r"^(?:(?:but|and) )?(?:while|whereas|despite|granted|admittedly)\b[^,]*$|\b(?:though|although)\b[^,]*$"
)
FRONTED_LIMIT = re.compile(
    r"\b(?:in terms of|with (?:respect|regard) to|regarding|as for|when it comes to|as far as|judging)\b[^,]*, ?$"
)
# Behind what is said
LIMITED = re.compile(
    r"^,? (?:only|if|unless|when|except|in|at|for|on|until|provided|assuming|as long as|so long as)\b"
    r"|^(?: than that| (?!because|as\b|since|and\b|but\b|while|whereas|which|that|due|with|by\b)\w+){1,5},? "
    r"(?:only|if|unless|except|provided|assuming|as long as|so long as)\b"
    r"|^,? (?:were|had) (?:it|they|there|the)\b"
    r"|^ than (?!that\b|the (?:other|first|second)\b)"
    r"|^ (?!indeed\b|based\b)\w+(?:ed|tten|rn|lt)\b"
    r"|^ (?:grammatically|stylistically|linguistically|technically|last)\b"
)
SHOWS_LIMITED = re.compile(
    r"^(?: than that)? (?:of|to|about|regarding|concerning|with (?:respect|regard) to|\w+ing)\b"
    r"|\b(?:but|however|yet|though|although|despite)\b"
)
REVOKES = re.compile(
    r"^(?: response| answer| one| choice)? (?:is|was|would|can|cannot|sounds|wouldn't|isn't)\b"
    r"|^,? (?:or|said|they say)\b"
    r"|^,? (?:which|but that|but this|but it) (?:is|was|would be) (?:not|wrong|false|untrue)\b"
)
RETRACTS = re.compile(
    r"(?:^|, )(?:(?:no|wait|correction|sorry)(?=,|$)|on second thought\b|just kidding\b|it depends\b)"
)
TURNS = re.compile(r"^(?:however|but|yet|still|nevertheless|nonetheless|that said|even so)\b")

# What a sentence may open with before it says something
OPENING = re.compile(
    r"^(?:(?:overall|therefore|thus|hence|so|ultimately|all in all"
    r"|in (?:conclusion|summary|short|general|my (?:opinion|view))"
    r"|to (?:conclude|summarize|sum up)|(?:between|of|comparing) (?:the|these) two(?: responses| answers)?"
    r"|based on (?:this|that|the (?:images?|pictures?|photos?|instructions|criteria)))(?:, | (?=response|i\b|the\b))"
    r"|i(?: would|'d| do)?(?: (?:honestly|strongly|really|personally|firmly))?"
    r" (?:say|think|believe|feel|conclude|find|consider)(?: that)?,? )+"
)
I_SAY = re.compile(r"(?:^|(?<=[ ,]))i(?: would|'d)? (?:say|think|believe|feel|conclude|find) (?:that )?$")
# Whom the better one is compared with, which is not what is said to be better
COMPARED = re.compile(
    r"(?:\b(?:rather )?(?:than|over|(?<!according )to)(?: in| that of| those (?:of|in))?"
    r"|\bcompared (?:to|with)|\bin (?:comparison|contrast) (?:to|with)"
    r"|\brelative to|\bunlike) response [12]\b"
)
# Where a part of a sentence begins that a "not" before it does not deny
CLAUSE = re.compile(
    r",? (?:so|therefore|thus|hence|(?<!not )because|since|but|while|whereas|and(?! that)) |[,:] (?=response)"
)
