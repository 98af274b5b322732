"""How answers to POPE are read, yes or no, and scored."""

from collections.abc import Sequence
from typing import Literal

from ..data.yes_no import parse_yes_no


__all__ = ["parse_yes_no", "pope_scores", "published_yes_no"]

Reading = Literal["strict", "published"]


def published_yes_no(answer: str) -> Literal["yes", "no"]:
    """
    Reads an answer as the scripts of POPE and LLaVA do, on whose scores the published figures rest: "No", "no" or
    "not" among the words before the first full stop is no, anything else is yes. So "NO" and "" are yes.

    Args:
        answer (`str`):
            What the model said.

    Returns:
        `"yes"` or `"no"`.
    """
    words = answer.split(".")[0].replace(",", "").split(" ")
    return "no" if {"No", "no", "not"}.intersection(words) else "yes"


def pope_scores(answers: Sequence[str], labels: Sequence[str], *, reading: Reading = "strict") -> dict:
    """
    Scores answers, with "yes" as the positive class. A share with nothing below the line is 0.0.

    Args:
        answers (`Sequence[str]`):
            What the model said.
        labels (`Sequence[str]`):
            `"yes"` or `"no"` for each answer.
        reading (`str`, *optional*, defaults to `"strict"`):
            How answers are read. `"strict"`: by [`parse_yes_no`]; an unreadable answer is wrong, and is neither a
            predicted yes nor a predicted no. `"published"`: by [`published_yes_no`], which takes it for a yes.

    Returns:
        `dict`:

        - `f1` (`float`): harmonic mean of precision and recall.
        - `accuracy` (`float`): right answers / answers.
        - `precision` (`float`): right yes / predicted yes.
        - `recall` (`float`): right yes / questions whose label is yes.
        - `predicted_yes_share` (`float`): predicted yes / answers. It is the model's answers that count here, not the
          labels, so a model that says yes to everything has 1.0.
        - `reading` (`str`): as given.
        - `unreadable` (`int`): answers that are neither yes nor no to [`parse_yes_no`], in either reading.
        - `correct` (`list[int]`): 1 for each right answer, else 0; to be summed per image for [`bootstrap_ratio`].
        - `predicted_yes`, `labelled_yes` (`list[int]`): 1 for each answer that is read as yes, and for each question
          whose label is yes.

    Raises:
        ValueError: there is no answer, the lengths differ, a label is neither yes nor no, or `reading` is neither
            of the two.
    """
    if not answers or len(answers) != len(labels):
        raise ValueError(
            f"`answers` and `labels` must be of one length and not empty, got {len(answers)} and {len(labels)}."
        )
    unknown = sorted(set(labels) - {"yes", "no"})
    if unknown:
        raise ValueError(f"`labels` must be yes or no, got {', '.join(map(repr, unknown))}.")
    if reading not in READINGS:
        raise ValueError(f"`reading` must be one of {', '.join(READINGS)}, got {reading!r}.")
    predictions = [READINGS[reading](answer) for answer in answers]
    correct = [int(prediction == label) for prediction, label in zip(predictions, labels, strict=True)]
    predicted_yes = [int(prediction == "yes") for prediction in predictions]
    labelled_yes = [int(label == "yes") for label in labels]
    right_yes = sum(right * positive for right, positive in zip(correct, labelled_yes, strict=True))
    said, positives = sum(predicted_yes), sum(labelled_yes)
    return {
        "f1": 2 * right_yes / (said + positives) if said + positives else 0.0,
        "accuracy": sum(correct) / len(correct),
        "precision": right_yes / said if said else 0.0,
        "recall": right_yes / positives if positives else 0.0,
        "predicted_yes_share": said / len(predictions),
        "reading": reading,
        "unreadable": sum(parse_yes_no(answer) is None for answer in answers),
        "correct": correct,
        "predicted_yes": predicted_yes,
        "labelled_yes": labelled_yes,
    }


READINGS = {"strict": parse_yes_no, "published": published_yes_no}
