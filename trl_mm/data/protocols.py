"""What a trainer knows of the samplers that make its pairs and of the judges that rank its answers.

Both reach it as arguments.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class PairGenerator(Protocol):
    """
    A callback that makes preference rows for the trainer it is given to.

    Attributes:
        online (`bool`): whether pairs are made from the current policy at each step, or offline, before training.
        needs (`tuple[str]`): columns that the rows must have.
        rejected_weight (`float` or `None`): weight of the `rejected` that a row has beside the one that is made, which
            is then `second_rejected`; `None` if pairs have one rejected answer.

    One may also have `distorts` (`bool`). If it is true, no pairs are made: rejected are the tokens that are likeliest
    at each place of the chosen answer under the images that `distorted_images(rows, step)` returns for each row
    (`list[list[PIL.Image.Image]]`).
    """

    online: bool
    needs: tuple[str, ...]
    rejected_weight: float | None

    def sample(self, model, processor, rows, step):
        """
        Make pairs from rows (`list[dict]`); returns the pairs and metrics (`dict[str, float]`), the same ones in every
        process. `step` is `None` in evaluation.
        """

    def make_dataset(self, model, processor, dataset, folder, rank, world_size):
        """Make pairs from a whole dataset and keep them in a folder; returns the folder with the finished shards."""

    def sampling_metrics(self, pairs):
        """Metrics (`dict[str, float]`) of the pairs of `make_dataset`, as loaded (`datasets.Dataset`)."""


OUTCOMES = ("clear", "tie", "invalid", "inconsistent")


class JudgeUnavailable(ConnectionError):
    """A judge cannot answer now, after its own retries; the same question may be answered later."""


@dataclass(frozen=True)
class Verdict:
    """
    What a judge says of one pair of answers.

    Args:
        choice (`int` or `None`): 0 if the first answer is better, 1 if the second; `None` unless `outcome` is
            `"clear"`.
        outcome (`str`): `"clear"`; `"tie"`, neither is better; `"invalid"`, the judge wrote nothing that can be read;
            or `"inconsistent"`, it said otherwise when the answers changed places.
        text (`str`, *optional*, defaults to `""`): what it wrote, for people to read.
        places (`tuple`, *optional*, defaults to `()`): for each order in which the answers were shown, which of the
            two places was preferred (0 or 1), or `None`; what a bias towards a place is estimated from.
        first_order (`Verdict`, *optional*): what is said in the order that was asked first, alone, where there were
            two orders.
    """

    choice: int | None
    outcome: str
    text: str = ""
    places: tuple[int | None, ...] = ()
    first_order: "Verdict | None" = None

    def __post_init__(self):
        if self.outcome not in OUTCOMES:
            raise ValueError(f"`outcome` must be one of {', '.join(OUTCOMES)}, got {self.outcome!r}.")
        if not _is_choice(self.choice) or (self.choice is None) == (self.outcome == "clear"):
            raise ValueError(
                f"`choice` must be 0 or 1 where `outcome` is clear, and None otherwise, got {self.choice!r} with "
                f"{self.outcome!r}."
            )


@runtime_checkable
class PairwiseJudge(Protocol):
    """
    Says which of two answers to a prompt about images is better.

    A judge may also have a method `verdicts` with the same arguments that returns `list[Verdict]`, so that ties and
    unreadable answers can be told apart; [`judge_pairs`] uses it if it is there. A function that takes what `judge`
    takes is a judge too.
    """

    def judge(
        self, prompts: Sequence[Any], images: Sequence[Sequence[Any]], answer_pairs: Sequence[tuple[str, str]]
    ) -> list[int | None]:
        """
        Compare the answers of each pair.

        Args:
            prompts (`Sequence[list[dict]]`): messages before the answers.
            images (`Sequence[list[PIL.Image.Image]]`): images of each prompt, in the order of its messages; `[]` for
                text only.
            answer_pairs (`Sequence[tuple[str, str]]`): two answers to each prompt.

        Returns:
            `list[int | None]`: 0 if the first answer is better, 1 if the second, `None` for a tie or where there is no
            readable, consistent verdict.

        Raises:
            JudgeUnavailable: the judge cannot answer now.
        """


def is_judge(judge):
    """Whether something is a [`PairwiseJudge`], or a function that takes what its `judge` takes (`bool`)."""
    if isinstance(judge, PairwiseJudge) or hasattr(judge, "parameters"):  # a model can be called, and is no judge
        return isinstance(judge, PairwiseJudge)
    try:
        inspect.signature(judge).bind([], [], [])
    except (TypeError, ValueError):  # ValueError: a function in C whose arguments are not known
        return False
    return True


def judge_name(judge):
    """Name of a function or of the class of an object, for messages (`str`)."""
    return getattr(judge, "__name__", type(judge).__name__)


def judge_pairs(judge, prompts, images, answer_pairs):
    """
    Ask a judge for [`Verdict`]s, whether it has `verdicts`, only `judge`, or is a function; arguments as in
    [`PairwiseJudge`].

    A bare `None` is taken for a tie.

    Returns:
        `list[Verdict]`: one for each pair.

    Raises:
        ValueError: the judge returned another number of verdicts, or something that is no verdict.
    """
    ask = getattr(judge, "verdicts", None) or getattr(judge, "judge", judge)
    return [
        verdict if isinstance(verdict, Verdict) else Verdict(verdict, "tie" if verdict is None else "clear")
        for verdict in check_verdicts(ask(prompts, images, answer_pairs), len(answer_pairs), judge)
    ]


def check_verdicts(verdicts, count, judge):
    """
    Refuse what a judge should not return.

    Args:
        verdicts (`Sequence` of `int`, `None` or [`Verdict`]): what it returned.
        count (`int`): number of pairs that it was asked about.
        judge ([`PairwiseJudge`]): the judge, for the message.

    Returns:
        `list`: the verdicts.

    Raises:
        ValueError: there are more or fewer than `count`, or one is something else.
    """
    name = judge_name(judge)
    cure = "A judge returns one verdict for each pair: 0 (the first answer is better), 1 (the second) or None."
    try:
        verdicts = list(verdicts)
    except TypeError:
        raise ValueError(f"The judge `{name}` returned {verdicts!r}, which is no list. {cure}") from None
    if len(verdicts) != count:
        raise ValueError(f"The judge `{name}` returned {len(verdicts)} verdicts for {count} pairs. {cure}")
    for index, verdict in enumerate(verdicts):
        if not isinstance(verdict, Verdict) and not _is_choice(verdict):
            raise ValueError(f"The judge `{name}` returned {verdict!r} for pair {index}. {cure}")
    return verdicts


def _is_choice(value):
    return value is None or (type(value) is int and value in (0, 1))  # `True == 1`, but means something else
