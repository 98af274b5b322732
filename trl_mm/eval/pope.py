"""
POPE (Li et al., "Evaluating Object Hallucination in Large Vision-Language Models", EMNLP 2023): yes-or-no questions,
half of them about objects that are not in the image.
"""

import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Literal


# "an hour", but "a unicycle", "a ukulele", "a euro coin", "a one-way sign": the sound decides, not the letter.
AN = re.compile(r"hour|heir|honest|(?!uni|uk|us[ei]|eu|one\b)[aeiou]", re.IGNORECASE)

FIRST_WORD = re.compile(
    r"[\W_]*(?:(?:the\s+)?answer(?:\s+is)?[\W_]+)?(yes|no)(?![^\W_])(?!\s*(?:/|or\s)\s*(?:yes|no)\b)", re.IGNORECASE
)


def pope_questions(
    annotations: Mapping[str, Set[str]],
    *,
    strategy: Literal["random", "popular", "adversarial"] = "random",
    questions_per_image: int = 6,
    seed: int,
    candidates: Iterable[str] | None = None,
    question: str = "Is there a {object} in the image?",
) -> list[dict[str, str]]:
    """
    Asks, for each image, about objects that are there and, after each of these, about one that is not. An image with
    fewer objects than needed gets fewer questions, so yes and no are always half and half.

    Args:
        annotations (`Mapping[str, Set[str]]`):
            From image to the objects in it, as [`load_annotations`] gives it.
        strategy (`str`, *optional*, defaults to `"random"`):
            Which absent objects are asked about: `"random"`; `"popular"`, those that are in the most images; or
            `"adversarial"`, those that are most often in one image with the present object just asked about. Ties are
            broken at random.
        questions_per_image (`int`, *optional*, defaults to `6`):
            Most questions per image, an even number.
        seed (`int`):
            Seed of all draws. Images share no draws, so their order changes nothing.
        candidates (`Iterable[str]`, *optional*):
            The objects to ask about. `None` takes all that are in any image.
        question (`str`, *optional*, defaults to `"Is there a {object} in the image?"`):
            Text with `{object}`; a word "a" before it becomes "an" where the object needs it.

    Returns:
        `list[dict[str, str]]`: rows with `image`, `question`, and `label`, `"yes"` or `"no"`.

    Raises:
        `ValueError`: if a setting is out of range, or no image has both a present and an absent candidate.
    """
    if strategy not in STRATEGIES:
        raise ValueError(f"`strategy` must be one of {', '.join(STRATEGIES)}, got {strategy!r}.")
    if questions_per_image < 2 or questions_per_image % 2:
        raise ValueError(f"`questions_per_image` must be even and at least 2, got {questions_per_image}.")
    if "{object}" not in question:
        raise ValueError(f"`question` must contain {{object}}, got {question!r}.")
    asked_about = sorted(set().union(*annotations.values()) if candidates is None else set(candidates))
    rank = STRATEGIES[strategy](annotations)

    rows = []
    for image, objects in annotations.items():
        rng = random.Random(f"{seed} {image}")
        order = rng.sample(asked_about, len(asked_about))
        present = [object_ for object_ in order if object_ in objects]
        absent = [object_ for object_ in order if object_ not in objects]
        for there in present[: questions_per_image // 2]:
            if not absent:
                break
            missing = max(absent, key=lambda object_, there=there: rank(object_, there))
            absent.remove(missing)
            rows += [
                {"image": image, "question": _ask(question, object_), "label": label}
                for object_, label in ((there, "yes"), (missing, "no"))
            ]
    if not rows:
        raise ValueError(
            "No image has both an object that is there and one that is not to ask about: check that `annotations` and "
            "`candidates` use the same names."
        )
    return rows


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
    return match[1].lower() if match else None


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


def pope_scores(
    answers: Sequence[str], labels: Sequence[str], *, reading: Literal["strict", "published"] = "strict"
) -> dict:
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
        `ValueError`: if there is no answer, the lengths differ, a label is neither yes nor no, or `reading` is neither
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


def _ask(question: str, object_: str) -> str:
    if AN.match(object_):
        question = re.sub(r"\b([Aa]) (?=\{object\})", r"\1n ", question)
    return question.replace("{object}", object_)


def _random(annotations: Mapping[str, Set[str]]) -> Callable[[str, str], int]:
    return lambda absent, present: 0


def _popular(annotations: Mapping[str, Set[str]]) -> Callable[[str, str], int]:
    images = Counter(object_ for objects in annotations.values() for object_ in objects)
    return lambda absent, present: images[absent]


def _adversarial(annotations: Mapping[str, Set[str]]) -> Callable[[str, str], int]:
    images = Counter((one, other) for objects in annotations.values() for one in objects for other in objects)
    return lambda absent, present: images[absent, present]


READINGS = {"strict": parse_yes_no, "published": published_yes_no}

STRATEGIES = {"random": _random, "popular": _popular, "adversarial": _adversarial}
