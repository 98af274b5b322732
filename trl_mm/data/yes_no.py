"""How an answer to a yes-or-no question is read."""

import re
from typing import Literal


FIRST_WORD = re.compile(
    r"[\W_]*(?:(?:the\s+)?answer(?:\s+is)?[\W_]+)?(yes|no)(?![^\W_])(?!\s*(?:/|or\s)\s*(?:yes|no)\b)", re.IGNORECASE
)


def parse_yes_no(answer: str) -> Literal["yes", "no"] | None:
    """
    Reads an answer by its first word, in any case: "Yes, there is." is yes, "No dog is visible." is no. Marks before
    it ("**Yes**") and "The answer is" or "Answer:" are passed over. Anything else is unreadable, also an echo of the
    choice ("yes or no", "yes/no").

    Args:
        answer (`str`):
            What the model said.

    Returns:
        `"yes"`, `"no"`, or `None` for an unreadable answer.
    """
    match = FIRST_WORD.match(answer)
    if match is None:
        return None
    return "yes" if match[1].lower() == "yes" else "no"
