"""
The words in which a text model is asked for a plausible wrong answer: ours, with examples of ours, after the strategy
that arXiv 2407.02477 describes for POVID.
"""

from .checks import REASONS


INSTRUCTIONS = """\
Below is a question about an image and a correct answer to it. You cannot see the image, and neither can the person \
who will read what you write. Write the answer again so that it contains a few mistakes about the image: exchange an \
object for one that often stands beside the others, add something that one would expect in such a place, or change a \
colour, a number, a position, an action or a relation.

Rules:
- Whoever reads it without the image must not be able to tell that something is wrong. What you write must be \
ordinary, free of contradictions, and possible in that scene.
- Change two or three details of a long answer, the decisive one of a short answer. Keep all the rest: order, tone, \
length, format, and the way in which the question is answered.
- Do not negate, do not add doubts, and do not say that anything was changed.
- Write nothing but the new answer."""

EXAMPLES = (
    (
        "What is the man doing?",
        "The man is standing at a counter and cutting a red pepper on a wooden board. Two onions lie beside him.",
        "The man is standing at a counter and cutting a tomato on a wooden board. A loaf of bread lies beside him.",
    ),
    (
        "How many bicycles are there?",
        "There are three.",
        "There are four.",
    ),
    (
        "Describe the room.",
        "It is a small bedroom with one window on the left. A grey cat sleeps on the bed, and books are piled on the "
        "night table next to a lamp.",
        "It is a small bedroom with one window on the right. A grey cat sleeps on the bed, and a clock stands on the "
        "night table next to a lamp.",
    ),
)

PAIR = "[Question]\n{question}\n\n[Correct answer]\n{answer}\n\n[Answer with mistakes]\n"

AGAIN = "An earlier attempt was of no use: {reason} Do better."


def request(question: str, answer: str, refused: str | None = None) -> str:
    """
    The text that asks for a corrupted answer.

    Args:
        question (`str`): what was asked about the image.
        answer (`str`): the chosen answer.
        refused (`str`, *optional*): key of `REASONS`, why the attempt before was refused.

    Returns:
        `str`
    """
    shown = "\n\n".join(f"{PAIR.format(question=asked, answer=good)}{bad}" for asked, good, bad in EXAMPLES)
    again = "" if refused is None else f"\n\n{AGAIN.format(reason=REASONS[refused])}"
    return f"{INSTRUCTIONS}{again}\n\n{shown}\n\n{PAIR.format(question=question, answer=answer)}".rstrip()
