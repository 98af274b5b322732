"""What a benchmark is: rows to ask, answers to score, and how the result reads. None of it runs a model."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, TypeVar


Truths = TypeVar("Truths", bound=Mapping[str, Set[str]])


@dataclass(kw_only=True)
class Benchmark(ABC):
    """
    One benchmark. Its fields are its own settings: `trl-mm eval` has an option and recipes a key for each of them, so
    every field has a default, a `help`, and a name that no other benchmark uses. What is wrong with them is a
    `ValueError` or an `OSError` that names the setting, from `__post_init__` or [`~Benchmark.questions`]: neither
    needs a model.
    """

    @abstractmethod
    def questions(self, truths: Mapping[str, Set[str]] | None, *, seed: int) -> list[dict[str, Any]]:
        """
        Makes or reads all rows, and whatever the scores need besides.

        Args:
            truths (`Mapping[str, Set[str]]`, *optional*):
                From image to the objects in it, where the user has `annotations`; [`need_annotations`] asks for them.
            seed (`int`):
                Seed of all draws.

        Returns:
            `list[dict[str, Any]]`: rows with `image` (relative to the image folder), `question`, and what their
            scores need. All of it is stored beside the answers, and answers to other rows are not resumed, but for
            `truth`: what only the score looks at, so that a correction of it needs no new answers.
        """

    @abstractmethod
    def score(self, questions: Sequence[Mapping[str, Any]], answers: Sequence[str], *, seed: int) -> dict[str, Any]:
        """
        Scores answers.

        Args:
            questions (`Sequence[Mapping[str, Any]]`):
                What [`~Benchmark.questions`] gave.
            answers (`Sequence[str]`):
                What the model said to each.
            seed (`int`):
                Seed of the bootstrap.

        Returns:
            `dict[str, Any]`: the result, which stands in `scores.json` under the name of the benchmark.
        """

    @staticmethod
    @abstractmethod
    def metric_parts(result: Mapping[str, Any]) -> dict[str, tuple[list, list]]:
        """For each metric the counts above and below the line, one per image, from which models are compared."""

    @staticmethod
    @abstractmethod
    def lines(result: Mapping[str, Any]) -> list[str]:
        """The result as the terminal shows it, with a warning where answers say nothing about the model's sight."""

    def longest_answer(self, max_new_tokens: int) -> int:
        """Most tokens of an answer (`int`), given the user's limit."""
        return max_new_tokens

    def answer_settings(self) -> dict[str, Any]:
        """Settings that a refusal to resume should name, besides the rows, which are compared anyway."""
        return {}

    @staticmethod
    def overall(result: Mapping[str, Any], *, seed: int) -> dict[str, Any]:
        """Figures over all parts of the result, which stand at the top of `scores.json`."""
        return {}

    @staticmethod
    def headline(scores: Mapping[str, Any]) -> list[str]:
        """Lines about [`~Benchmark.overall`], from all of `scores.json`: they come before those of any benchmark."""
        return []


def need_annotations(truths: Truths | None) -> Truths:
    """The objects of each image; without any a `ValueError` that says what can be measured without them."""
    if truths is None:
        raise ValueError(
            "`annotations` is missing: CHAIR and POPE's questions are made of them. Pass a COCO-style JSON such as "
            "instances_val2014.json, or ask published questions only: --benchmarks pope --pope_files FILE ..."
        )
    return truths


def figure(result: Mapping[str, Any], name: str) -> str:
    """A share with its 95 % interval, as text."""
    low, high = result["intervals"][name]
    return f"{result[name]:.1%} [{low:.1%}, {high:.1%}]"


def figures(result: Mapping[str, Any], names: Iterable[str]) -> str:
    """Shares by name, as text."""
    return ", ".join(f"{name} {figure(result, name)}" for name in names)
