"""
POPE (Li et al., "Evaluating Object Hallucination in Large Vision-Language Models", EMNLP 2023): yes-or-no questions,
half of them about objects that are not in the image.
"""

import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from .benchmark import Benchmark, Metric, figure, figures, need_annotations
from .pope_answers import read_answers_to_files, read_labelled_answers
from .pope_categories import pope_categories, pope_headline, pope_parts
from .pope_files import read_pope_files, with_suffix
from .pope_scores import READINGS, Reading


Item = TypeVar("Item")

# "an hour", but "a unicycle", "a ukulele", "a euro coin", "a one-way sign": the sound decides, not the letter.
AN = re.compile(r"hour|heir|honest|(?!uni|uk|us[ei]|eu|one\b)[aeiou]", re.IGNORECASE)


def pope_questions(
    annotations: Mapping[str, Set[str]],
    *,
    strategy: str = "random",
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
        ValueError: a setting is out of range, or no image has both a present and an absent candidate.
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
            missing = max(absent, key=rank(there))
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


def _ask(question: str, object_: str) -> str:
    if AN.match(object_):
        question = re.sub(r"\b([Aa]) (?=\{object\})", r"\1n ", question)
    return question.replace("{object}", object_)


# From the present object to how good an absent one is beside it
Rank = Callable[[str], Callable[[str], int]]


def _random(annotations: Mapping[str, Set[str]]) -> Rank:
    return lambda present: lambda absent: 0


def _popular(annotations: Mapping[str, Set[str]]) -> Rank:
    images = Counter(object_ for objects in annotations.values() for object_ in objects)
    return lambda present: lambda absent: images[absent]


def _adversarial(annotations: Mapping[str, Set[str]]) -> Rank:
    images = Counter((one, other) for objects in annotations.values() for one in objects for other in objects)
    return lambda present: lambda absent: images[absent, present]


STRATEGIES = {"random": _random, "popular": _popular, "adversarial": _adversarial}


@dataclass(kw_only=True)
class PopeBenchmark(Benchmark):
    """
    POPE, on questions made of annotations or on published ones.

    Args:
        pope_strategies (`list[str]`, *optional*, defaults to `["random", "popular", "adversarial"]`): how POPE picks
            objects that are not there.
        pope_questions_per_image (`int`, *optional*, defaults to `6`): half of them are answered by yes.
        pope_files (`list[str]`, *optional*): published questions, instead of questions from the annotations: the files
            of POPE, RePOPE or POPEv2, as JSON lines or arrays. Each is a category, and all of it is asked.
        pope_reading (`str`, *optional*): how answers are read. `"published"` is that of the scripts of POPE and LLaVA,
            where whatever is not no is yes, and the default for published questions; `"strict"`, the default for
            questions from the annotations, takes an answer that is neither yes nor no for wrong.
        pope_suffix (`str`, *optional*): what follows each question of POPE on a line of its own. LLaVA's is "Answer
            the question using a single word or phrase.".
    """

    pope_strategies: list[str] = field(default_factory=lambda: ["random", "popular", "adversarial"])
    pope_questions_per_image: int = 6
    pope_files: list[str] | None = None
    pope_reading: Reading | None = None
    pope_suffix: str | None = None

    title = "POPE"
    answer_rows = (
        "`answer`, `label` (yes or no), and if there are any `category` and `image`; with `--files`, which have the "
        "labels, POPE's own `question` and `answer` or LLaVA's `question_id`, `prompt` and `text`"
    )
    metrics = {
        "pope_f1": Metric("F1", "higher"),
        "pope_accuracy": Metric("accuracy", "higher"),
        "pope_yes_share": Metric("says yes", "neither"),
    }
    score_settings = {"pope_reading": "published", "pope_files": None}

    def __post_init__(self) -> None:
        if self.pope_reading is not None and self.pope_reading not in READINGS:
            known = ", ".join(READINGS)
            raise ValueError(f"`pope_reading` must be one of {known}, got {self.pope_reading!r}.")
        each = self.pope_questions_per_image
        if not isinstance(each, int) or each < 2:
            raise ValueError(f"`pope_questions_per_image` must be at least 2 and whole, got {each!r}.")

    def questions(self, truths: Mapping[str, Set[str]] | None, *, seed: int) -> list[dict[str, Any]]:
        rows = read_pope_files(self.pope_files) if self.pope_files else self._made_questions(truths, seed)
        rows = by_category(rows, [row["category"] for row in rows])
        return [{**row, "question": with_suffix(row["question"], self.pope_suffix)} for row in rows]

    def _made_questions(self, truths: Mapping[str, Set[str]] | None, seed: int) -> list[dict[str, str]]:
        truths, each = need_annotations(truths), self.pope_questions_per_image
        return [
            {**row, "category": strategy}
            for strategy in self.pope_strategies
            for row in pope_questions(truths, strategy=strategy, questions_per_image=each, seed=seed)
        ]

    def longest_answer(self, max_new_tokens: int) -> int:
        # The published reading looks through the first sentence, of LLaVA's 128 tokens; ours at the first word
        return min(max_new_tokens, 128 if self.pope_files else 16)

    def answer_settings(self) -> dict[str, Any]:
        return {"pope_suffix": self.pope_suffix} if self.pope_suffix else {}

    def score(self, questions: Sequence[Mapping[str, Any]], answers: Sequence[str], *, seed: int) -> dict[str, Any]:
        reading = self.pope_reading or ("published" if self.pope_files else "strict")
        return pope_categories(questions, answers, reading=reading, seed=seed)

    def read_answers(self, path: Path) -> tuple[list[dict[str, Any]], list[str]]:
        rows, answers = (
            read_answers_to_files(path, self.pope_files) if self.pope_files else read_labelled_answers(path)
        )
        categories = [row["category"] for row in rows]
        return by_category(rows, categories), by_category(answers, categories)

    def published_scores(self, result: Mapping[str, Any]) -> dict[str, Any]:
        names = {"accuracy": "accuracy", "precision": "precision", "recall": "recall", "f1": "f1"}
        names["predicted_yes_share"] = "yes_ratio"
        scores = {
            category: {shown: found[name] for name, shown in names.items()} | {"unreadable": found["unreadable"]}
            for category, found in result.items()
        }
        means = {shown: sum(found[shown] for found in scores.values()) / len(scores) for shown in names.values()}
        return {**means, "unreadable": sum(found["unreadable"] for found in scores.values()), "categories": scores}

    @staticmethod
    def row_scores(result: Mapping[str, Any]) -> list[float | None]:
        return list(PopeBenchmark.correct(result) or [])

    @staticmethod
    def correct(result: Mapping[str, Any]) -> list[int] | None:
        return [right for found in result.values() for right in found["correct"]]

    @staticmethod
    def overall(result: Mapping[str, Any], *, seed: int) -> dict[str, Any]:
        return pope_headline(result, seed=seed)

    @staticmethod
    def metric_parts(result: Mapping[str, Any]) -> dict[str, tuple[list, list]]:
        return pope_parts(result)

    @staticmethod
    def headline(scores: Mapping[str, Any]) -> list[str]:
        result = {"intervals": scores["pope_intervals"], **scores}
        return [
            f"POPE: F1 {figure(result, 'pope_f1')} (mean of {len(scores['pope'])} categories), accuracy "
            f"{figure(result, 'pope_accuracy')}, says yes {figure(result, 'pope_yes_share')}"
        ]

    @staticmethod
    def lines(result: Mapping[str, Any]) -> list[str]:
        lines = []
        for category, found in result.items():
            asked, unreadable = len(found["correct"]), found["unreadable"]
            lines.append(
                f"POPE {category}, {asked} questions: "
                f"{figures(found, ('f1', 'accuracy', 'precision', 'recall'))}, "
                f"says yes {figure(found, 'predicted_yes_share')}, "
                f"neither yes nor no {unreadable} ({unreadable / asked:.1%}), read as {READ_AS[found['reading']]}"
            )
            if unreadable > asked / 2:
                lines.append("Most answers are neither yes nor no. Read them.")
        return lines


def by_category(items: Sequence[Item], categories: Sequence[str]) -> list[Item]:
    """Items in the order of their categories, as results have them; those of one category stay in theirs."""
    order = {category: place for place, category in enumerate(dict.fromkeys(categories))}
    places = sorted(range(len(items)), key=lambda index: order[categories[index]])
    return [items[index] for index in places]


# What the readings of POPE make of an answer that is neither yes nor no
READ_AS = {"strict": "wrong", "published": "yes unless a no is in it"}
