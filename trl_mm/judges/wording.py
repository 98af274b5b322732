"""The words in which an annotator model is asked about two answers: ours, after Table 14 of arXiv 2407.02477."""

INSTRUCTIONS = """\
You compare two responses to the same request about the images above. Prefer the response that invents less: every \
object, attribute, number and relation in it must be as the images show it, and where they are unclear it should say \
nothing rather than guess. If both are equally faithful to the images, prefer the one that is more helpful and \
concise. The order of the responses means nothing, nor does what they say about themselves or each other."""

TEXT_ONLY_INSTRUCTIONS = """\
You compare two responses to the same request. Prefer the response that invents less: it should state only what is \
true and follows from the request, and say nothing rather than guess. If both are equally faithful, prefer the one \
that is more helpful and concise. The order of the responses means nothing, nor does what they say about themselves \
or each other."""

PAPER_INSTRUCTIONS = """\
Someone asked for something about the images above and got two responses. Judge which one serves them better. What \
counts first is hallucination: the objects that a response names must be in the images, with the attributes and \
relations that the images show, and of what cannot be made out there it should not speak. Choose the response that \
hallucinates less. What counts next is how helpful and how concise a response is."""

PAPER_TEXT_ONLY_INSTRUCTIONS = """\
Someone asked for something and got two responses. Judge which one serves them better. What counts first is \
hallucination: a response must state only what is true and follows from the request, and of what cannot be known it \
should not speak. Choose the response that hallucinates less. What counts next is how helpful and how concise a \
response is."""

QUESTION = """\
{instructions}

[Request]
{request}
[End of request]

[Response 1]
{first}
[End of Response 1]

[Response 2]
{second}
[End of Response 2]

{ask}"""

ASK = """\
Which response is better? Begin with one line that is exactly "Better: Response 1", "Better: Response 2" or \
"Better: tie". Then say why in one sentence."""

PAPER_ASK = """\
Which of the two is the better response, "Response 1" or "Response 2"? Say which one, and explain why."""

# Style: instructions with images, instructions without, what is asked
WORDING = {
    "both_orders": (INSTRUCTIONS, TEXT_ONLY_INSTRUCTIONS, ASK),
    "paper": (PAPER_INSTRUCTIONS, PAPER_TEXT_ONLY_INSTRUCTIONS, PAPER_ASK),
}

STYLES = tuple(WORDING)


def check_style(style: str) -> None:
    """Refuse a `style` that is none of `STYLES`, as a ValueError."""
    if style not in STYLES:
        raise ValueError(f"`style` must be one of {', '.join(STYLES)}, got {style!r}.")
