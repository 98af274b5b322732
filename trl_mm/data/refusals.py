"""Answers that are refusals, told by how they begin."""

import re


_REFUSAL = re.compile(
    r"(?:i'?m|i am|we'?re|we are)\s+(?:very\s+|so\s+)?(?:sorry|afraid|unable|not\s+able)\b"
    r"|sorry\b|unfortunately\b|as an? (?:\w+ )?ai\b"
    r"|i\s+(?:can(?:no|')t|could\s*n[o']t|will not|won't|do\s*n[o']t\s+(?:have|feel comfortable))\b",
    re.IGNORECASE,
)


def is_refusal(text: str) -> bool:
    """Whether an English answer begins as a refusal does ("I'm sorry, but …", "As an AI …")."""
    return bool(_REFUSAL.match(text.strip().replace("’", "'")))
