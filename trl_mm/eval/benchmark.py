"""What a benchmark is: rows to ask, answers to score, and how the result reads. None of it runs a model."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeVar


if TYPE_CHECKING:
    from PIL.Image import Image


Truths = TypeVar("Truths", bound=Mapping[str, Set[str]])


@dataclass(frozen=True)
class Metric:
    """
    How a metric of [`Benchmark.metric_parts`] is shown.

    Args:
        label (`str`): name in tables, such as `"F1"`.
        better (`str`): `"higher"`, `"lower"`, or `"neither"`: lengths, shares of yes.
        scale (`float`, *optional*, defaults to `100.0`): what the ratio is multiplied by, 100 for a percentage.
        digits (`int`, *optional*, defaults to `1`): digits after the point.
    """

    label: str
    better: Literal["higher", "lower", "neither"]
    scale: float = 100.0
    digits: int = 1


class Ask(Protocol):
    """
    Has the judge answer texts, each with the images that are shown before it. `options` are fields of the request
    (`temperature`, `max_tokens`) other than the benchmark's `judge_options`. A question that is refused has `None`.
    """

    def __call__(self, questions: "Sequence[tuple[str, Sequence[Image]]]", **options: Any) -> list[str | None]: ...


@dataclass(kw_only=True)
class Benchmark(ABC):
    """
    One benchmark. Its fields are its own settings: `trl-mm eval` has an option and recipes a key for each of them, so
    every field has a default, a line in the docstring, and a name that no other benchmark uses: it begins with the
    name of the benchmark. `trl-mm score NAME` has the same options without that beginning. What is wrong with them is
    a `ValueError` or an `OSError` that names the setting, from `__post_init__`, [`~Benchmark.questions`] or
    [`~Benchmark.read_answers`]: none needs a model.

    A benchmark that a judge scores has `judge_options`, and [`~Benchmark.judge`] adds what it said to the rows before
    they are scored.
    """

    title: ClassVar[str]
    """Name in tables."""
    answer_rows: ClassVar[str]
    """What a row of a file of answers carries, for `trl-mm score --list`."""
    metrics: ClassVar[Mapping[str, Metric]]
    """The metrics of [`~Benchmark.metric_parts`]; the first is what papers report."""
    score_settings: ClassVar[Mapping[str, Any]] = {}
    """The settings that `trl-mm score` has, with its defaults, which are those of published scores."""
    default_length: ClassVar[int] = 256
    """Most tokens of an answer where the user sets none: the published length, if there is one."""
    judge_options: ClassVar[Mapping[str, Any] | None] = None
    """Fields of the request to the judge, as published, such as `{"temperature": 0, "max_tokens": 1024}`."""
    judge_system: ClassVar[str | None] = None
    """System message to the judge."""

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

    def read_answers(self, path: Path) -> tuple[list[dict[str, Any]], list[str]]:
        """
        Reads answers that any tool wrote, in the published formats, mostly by [`read_entries`].

        Args:
            path (`Path`):
                File, or a folder where that is the published form.

        Returns:
            `tuple[list[dict[str, Any]], list[str]]`: rows as [`~Benchmark.questions`] gives them, with what the judge
            said where there is one, and the answers.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: an entry lacks something; the message names the entry, counted from 1, and what it lacks.
        """
        raise ValueError(f"{self.title} has no scores for answers in a file.")

    def judge(self, questions: Sequence[Mapping[str, Any]], answers: Sequence[str], ask: Ask) -> list[dict[str, Any]]:
        """
        Has a judge look at the answers.

        Args:
            questions, answers:
                As in [`~Benchmark.score`]; `image` of a question is the path of its file.
            ask ([`Ask`]):
                The judge.

        Returns:
            `list[dict[str, Any]]`: columns that are added to each row before it is scored, such as `reply`; `None` in
            them where the judge did not answer: the row is not judged, which the result says.
        """
        raise NotImplementedError

    @staticmethod
    @abstractmethod
    def metric_parts(result: Mapping[str, Any]) -> dict[str, tuple[list, list]]:
        """For each metric the counts above and below the line, one per image, from which models are compared."""

    @staticmethod
    @abstractmethod
    def lines(result: Mapping[str, Any]) -> list[str]:
        """The result as the terminal shows it, with a warning where answers say nothing about the model's sight."""

    def published_scores(self, result: Mapping[str, Any]) -> dict[str, Any]:
        """What the published scorer prints, by its names and on its scale, not rounded further than it rounds."""
        return {}

    @staticmethod
    def row_scores(result: Mapping[str, Any]) -> list[float | None]:
        """How good each answer is, in the order of the rows: higher is better, `None` for what was not judged."""
        raise NotImplementedError

    @staticmethod
    def correct(result: Mapping[str, Any]) -> list[int] | None:
        """1 for each right answer, else 0, in the order of the rows; `None` where answers are not right or wrong."""
        return None

    def marks(self, question: Mapping[str, Any], answer: str) -> list[tuple[int, int, str]]:
        """Words of an answer to mark on a page (start, end, `"bad"` or `"good"`): objects that it names."""
        return []

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
