"""
POPE (Li et al., "Evaluating Object Hallucination in Large Vision-Language Models", EMNLP 2023): yes-or-no questions,
half of them about objects that are not in the image.
"""

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from pathlib import Path
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


def read_pope_file(path: str | Path) -> list[dict[str, str]]:
    """
    Reads published questions: JSON lines such as
    `{"question_id": 1, "image": "COCO_val2014_000000310196.jpg", "text": "Is there a dog?", "label": "yes"}`.

    Args:
        path (`str` or `Path`):
            The file.

    Returns:
        `list[dict[str, str]]`: rows with `image`, `question` and `label`, as from [`pope_questions`].

    Raises:
        `FileNotFoundError`: if there is no such file.
        `ValueError`: if a line has another format; the message names the file, the line and the cure.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no POPE file at {path}: give one of the published JSON-lines files.")
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            row = {"image": entry["image"], "question": entry["text"], "label": entry["label"].lower()}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(
                f"{path}, line {number}: needs a JSON object with `image`, `text` and `label`, got {line[:200]!r}."
            ) from error
        if row["label"] not in ("yes", "no"):
            raise ValueError(f"{path}, line {number}: `label` must be yes or no, got {entry['label']!r}.")
        rows.append(row)
    if not rows:
        raise ValueError(f"{path} holds no question: give one of the published JSON-lines files.")
    return rows


def parse_yes_no(answer: str) -> Literal["yes", "no"] | None:
    """
    Reads an answer by its first word, in any case: "Yes, there is." is yes, "No dog is visible." is no. Marks before
    it ("**Yes**") and "The answer is" or "Answer:" are passed over. Anything else is unreadable, also an echo of the
    choice ("yes or no", "yes/no"). (The published script takes every answer without "no" or "not" for a yes.)

    Args:
        answer (`str`):
            What the model said.

    Returns:
        `"yes"`, `"no"`, or `None` for an unreadable answer.
    """
    match = FIRST_WORD.match(answer)
    return match[1].lower() if match else None


def pope_scores(answers: Sequence[str], labels: Sequence[str]) -> dict:
    """
    Scores answers, with "yes" as the positive class. An unreadable answer is wrong, and is neither a predicted yes nor
    a predicted no. A share with nothing below the line is 0.0.

    Args:
        answers (`Sequence[str]`):
            What the model said.
        labels (`Sequence[str]`):
            `"yes"` or `"no"` for each answer.

    Returns:
        `dict`:

        - `accuracy` (`float`): right answers / answers.
        - `precision` (`float`): right yes / predicted yes.
        - `recall` (`float`): right yes / questions whose label is yes.
        - `f1` (`float`): harmonic mean of the last two.
        - `predicted_yes_share` (`float`): predicted yes / answers. It is the model's answers that count here, not the
          labels, so a model that says yes to everything has 1.0.
        - `unreadable` (`int`): number of unreadable answers.
        - `correct` (`list[int]`): 1 for each right answer, else 0; to be summed per image for [`bootstrap_ratio`].

    Raises:
        `ValueError`: if there is no answer, the lengths differ, or a label is neither yes nor no.
    """
    if not answers or len(answers) != len(labels):
        raise ValueError(
            f"`answers` and `labels` must be of one length and not empty, got {len(answers)} and {len(labels)}."
        )
    unknown = sorted(set(labels) - {"yes", "no"})
    if unknown:
        raise ValueError(f"`labels` must be yes or no, got {', '.join(map(repr, unknown))}.")
    predictions = [parse_yes_no(answer) for answer in answers]
    correct = [int(prediction == label) for prediction, label in zip(predictions, labels, strict=True)]
    right_yes = sum(right for right, label in zip(correct, labels, strict=True) if label == "yes")
    predicted_yes, labelled_yes = predictions.count("yes"), list(labels).count("yes")
    return {
        "accuracy": sum(correct) / len(correct),
        "precision": right_yes / predicted_yes if predicted_yes else 0.0,
        "recall": right_yes / labelled_yes if labelled_yes else 0.0,
        "f1": 2 * right_yes / (predicted_yes + labelled_yes) if predicted_yes + labelled_yes else 0.0,
        "predicted_yes_share": predicted_yes / len(predictions),
        "unreadable": predictions.count(None),
        "correct": correct,
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


STRATEGIES = {"random": _random, "popular": _popular, "adversarial": _adversarial}
