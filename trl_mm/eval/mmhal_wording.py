"""What the judge of MMHal-Bench is told: in our words, with examples of our own."""

from collections.abc import Sequence


INSTRUCTION = """\
You grade an answer that a vision-language model gave to a question about an image. Two things decide the grade. Is the
answer informative? And does it hallucinate, that is, does it claim something, be it an object, an attribute, a number,
a place, an action or a mood, that neither the image nor the conversation supports? Be fair and take no sides.

Five answers that were graded before:
"""

SEES_IMAGE = "The image is shown above. Where it and the sections below differ, believe the image.\n\n"

EXAMPLE = """\
### Example {number}
- Image Contents: {contents}
- Question: {question}
- Standard Human-Generated Answer: {reference}
- LMM Response to Evaluate: {answer}
- Analysis: {analysis}
- Hallucination: {verdict}
"""

EXAMPLES = (
    (
        "Bicycle, Wheel, Wall",
        "Which colour is the bicycle?",
        "The bicycle is green.",
        "The bicycle that leans on the wall is red.",
        "The bicycle is green, so its colour is made up, even though the rest is right.",
        "Yes.",
    ),
    (
        "Bread, Knife, Table",
        "What is on the table?",
        "A loaf of bread and a knife.",
        "There is a loaf of bread with a dark crust, and a knife lies next to it on the table.",
        "Both things are there. Crust and place of the knife are plausible and contradict nothing that is known.",
        "No.",
    ),
    (
        "Boat, Water, Person",
        "Describe the scene.",
        "A man rows a small boat on a calm lake. There are hills behind it.",
        "A man rows a small boat over a calm lake, in front of hills. A second boat follows with two children in it.",
        "The first sentence is right. Neither the second boat nor the children are in the image.",
        "Yes.",
    ),
    (
        "Building, Street, Clock",
        "In which city was this taken?",
        "The sign of the station says that it is Porto.",
        "It is a street in a town with a clock on one of its buildings, but I cannot tell which town it is.",
        "The city is not named, which makes the answer less useful. It claims nothing that is false, though: to be "
        "unsure or to leave something out is no hallucination.",
        "No.",
    ),
    (
        "River, Plastic bag, Bottle",
        "What problem does the picture show?",
        "Rubbish floats in a river, which harms the animals in it.",
        "Bottles and bags float in the river. Plastic breaks down slowly; fish and birds swallow the pieces, and "
        "these end up in the sea and in our food. Collecting such waste and using less packaging would help.",
        "It is longer than the reference and adds what is generally known about waste in rivers. None of it is false "
        "of the image, so the reasoning speaks for the answer.",
        "No.",
    ),
)

TASK = """\
Now grade the answer at the end. The standard answer was written by a person; it states facts, but perhaps not all that
can be seen, and it rarely explains them. So do not count everything that it leaves out as invented, and value sound
reasoning in the response.

Explain your view in a few sentences first. Then end with one of these grades, written as "Rating: " and the number:
"""

SCALE = (
    "not informative, hallucinates",
    "somewhat informative, hallucinates",
    "very informative, hallucinates",
    "not informative, does not hallucinate",
    "somewhat informative, does not hallucinate",
    "very informative, does not hallucinate",
    "very informative, with good analysis or reasoning, does not hallucinate",
)

SECTIONS = """\
### Image Contents
{contents}

### Question
{question}

### Standard Human-Generated Answer
{reference}

### LMM Response to Evaluate
{answer}
"""


def grading_question(
    contents: Sequence[str], question: str, reference: str, answer: str, *, with_image: bool = False
) -> str:
    """
    The text to judge: instruction, five worked examples, the scale from 6 to 0, and what is to be graded.

    Args:
        contents (`Sequence[str]`): names of what is in the image.
        question (`str`): what was asked.
        reference (`str`): what a person answered.
        answer (`str`): what the model answered.
        with_image (`bool`, *optional*, defaults to `False`): whether the judge sees the image.
    """
    names = ("contents", "question", "reference", "answer", "analysis", "verdict")
    examples = [
        EXAMPLE.format(number=number, **dict(zip(names, example, strict=True)))
        for number, example in enumerate(EXAMPLES, start=1)
    ]
    grades = [f"- Rating: {grade}, {SCALE[grade]}" for grade in reversed(range(len(SCALE)))]
    sections = SECTIONS.format(contents=", ".join(contents), question=question, reference=reference, answer=answer)
    image = SEES_IMAGE if with_image else ""
    return "\n".join([INSTRUCTION, *examples, TASK + "\n".join(grades) + "\n", image + sections])
