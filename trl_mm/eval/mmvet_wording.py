"""What the judge of MM-Vet is told: in our words, with seven examples of our own."""

INSTRUCTION = """\
Score how right a prediction is, given the ground truth. Where <AND> stands in the ground truth, a prediction is \
totally right only if it has all of the elements around it; where <OR> stands, any one of them is enough. Scores go \
from 0.0 (totally wrong) in steps of 0.1 to 1.0 (totally right). Fill in the last cell of the table, which is the \
score, and write nothing else."""

_SIGN = "Where does the sign lead?"
_TOWNS = "Mill Lane <AND> Old Harbour"
_CARTOON = "Why is this cartoon funny?"
_REASON = (
    "A snail overtakes a courier van on the motorway. The van stands for fast delivery, and the joke is that parcels "
    "which were promised for the next day arrive so late that a snail is faster."
)

EXAMPLES = (
    (_SIGN, _TOWNS, "To the station.", "0.0"),
    (_SIGN, _TOWNS, "It leads to Mill Lane.", "0.5"),
    (_SIGN, _TOWNS, "Old Harbour", "0.5"),
    (_SIGN, _TOWNS, "To Old Harbour and to the airport", "0.5"),
    (_SIGN, _TOWNS, "To Mill Lane on the left and Old Harbour on the right", "1.0"),
    (_CARTOON, _REASON, "A snail drives faster than a van, and snails are slow.", "0.4"),
    (
        _CARTOON,
        _REASON,
        "The van of a courier is passed by a snail, of all animals. That makes fun of delivery services that "
        "advertise next-day delivery and then need so long that even a snail would bring the parcel sooner.",
        "1.0",
    ),
)

AGAIN = "\nThe score of this prediction as a number, such as 0.3: "


def table_question(question: str, truth: str, answer: str) -> str:
    """
    The text to judge: instruction, a table of seven examples, and a row that lacks its last cell.

    Args:
        question (`str`): what was asked.
        truth (`str`): the ground truth, with `<AND>` and `<OR>`.
        answer (`str`): what the model answered.
    """
    header = ("Question | Ground truth | Prediction | Correctness", "--- | --- | --- | ---")
    rows = [" | ".join(example) for example in EXAMPLES]
    spaced = truth.replace("<AND>", " <AND> ").replace("<OR>", " <OR> ")
    return "\n".join([INSTRUCTION, "", *header, *rows, "", " | ".join([question, spaced, answer, ""])])
