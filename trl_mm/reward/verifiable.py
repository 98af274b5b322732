"""
Rewards that are computed from an answer and a column of its row, without a model.

They are called as TRL calls reward functions, so they go into `reward_funcs` of TRL's `RLOOTrainer` and `GRPOTrainer`
and of [`MMOnlineDPOTrainer`]; those that need no column go into [`RewardJudge`] too. A row without a value in the
column has the reward `None`, which trainers leave out, so that rows of several kinds can be mixed.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data.object_vocabulary import ObjectVocabulary
from ..data.shown import shown
from ..data.yes_no import parse_yes_no
from .answer_forms import answer_text, as_list, as_text, normalized


class VerifiableReward(ABC):
    """
    A reward function of TRL that looks at an answer and at one column of its row.

    Args:
        columns (`tuple[str, ...]`): the column is the first of these that the rows have. With none, only the answer is
            looked at.
        name (`str`): what the reward is logged under.
    """

    def __init__(self, columns: tuple[str, ...], name: str):
        self.columns = columns
        self.__name__ = name

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[str | Sequence[Mapping[str, Any]]],
        **columns: Any,
    ) -> list[float | None]:
        """
        Args:
            prompts (`list`): not looked at.
            completions (`list[list[dict]]` or `list[str]`): the answers, as messages or text.
            **columns: columns of the rows, one value for each answer.

        Returns:
            `list[float | None]`: a reward for each answer, `None` where its row has no value.

        Raises:
            ValueError: the column is missing, or its value cannot be read.
        """
        texts = [answer_text(completion) for completion in completions]
        if not self.columns:
            return [self.reward(text, None) for text in texts]
        name = self.column_of(columns)
        rewards: list[float | None] = []
        for text, value in zip(texts, columns[name], strict=True):
            try:
                rewards.append(None if value is None else self.reward(text, value))
            except ValueError as error:
                raise ValueError(f"Column `{name}` for the reward `{self.__name__}`: {error}") from error
        return rewards

    def column_of(self, columns: Iterable[str]) -> str:
        """
        The column that is looked at.

        Raises:
            ValueError: the rows have no such column.
        """
        found = next((name for name in self.columns if name in columns), None)
        if found is None:
            wanted = " or ".join(f"`{name}`" for name in self.columns)
            raise ValueError(
                f"The reward `{self.__name__}` needs the column {wanted}. Add it to the rows, `None` where a row has "
                "no value, or name another with `column`. Judges show no columns: pass the reward as `reward_funcs`."
            )
        return found

    @abstractmethod
    def reward(self, text: str, value: Any) -> float | None:
        """Reward of one answer; `value` is that of its row, not `None`."""


class YesNoReward(VerifiableReward):
    """
    1 where the answer says yes or no as the row does, 0 where it does not, also where it says neither.

    Args:
        column (`str`, *optional*): column with the right answer: yes or no, a truth value, or 1 or 0. Other text is
            the answer to another kind of question and has no reward. Defaults to `label`, or to `answer` where the
            rows have no `label`.
        name (`str`, *optional*, defaults to `"yes_no"`): what the reward is logged under.
    """

    def __init__(self, column: str | None = None, *, name: str = "yes_no"):
        super().__init__(("label", "answer") if column is None else (column,), name)

    def reward(self, text: str, value: Any) -> float | None:
        if isinstance(value, str):
            right: str | None = normalized(value)
        elif value in (0, 1):
            right = "yes" if value else "no"
        else:
            raise ValueError(f"{shown(value, 100)} is neither yes nor no. Write yes, no, or `None`.")
        return float(parse_yes_no(text) == right) if right in ("yes", "no") else None


class ExactMatchReward(VerifiableReward):
    """
    1 where the answer is that of the row, or one of those that it accepts, 0 elsewhere; compared as [`normalized`].

    Args:
        column (`str`, *optional*, defaults to `"answer"`): column with the right answer (`str` or a number), or with a
            list of all that are accepted.
        name (`str`, *optional*, defaults to `"exact_match"`): what the reward is logged under.
    """

    def __init__(self, column: str = "answer", *, name: str = "exact_match"):
        super().__init__((column,), name)

    def reward(self, text: str, value: Any) -> float | None:
        accepted = {normalized(as_text(item)) for item in as_list(value) if item is not None} - {""}
        return float(normalized(text) in accepted) if accepted else None


class FormatReward(VerifiableReward):
    """
    1 where the whole answer has a form, 0 elsewhere.

    Args:
        pattern (`str`): regular expression that matches the answer from its beginning to its end, without spaces
            around it; a dot matches line breaks too.
        name (`str`, *optional*, defaults to `"format"`): what the reward is logged under.

    Raises:
        ValueError: `pattern` is no regular expression.
    """

    def __init__(self, pattern: str, *, name: str = "format"):
        super().__init__((), name)
        try:
            self.pattern = re.compile(pattern, re.DOTALL)
        except (re.error, TypeError) as error:
            raise ValueError(f"`pattern` ({pattern!r}) is no regular expression: {error}.") from error

    def reward(self, text: str, value: Any) -> float:
        return float(self.pattern.fullmatch(text.strip()) is not None)


class LengthReward(VerifiableReward):
    """
    0 for an answer of the wanted length, and less for each word beside it.

    Args:
        limit (`int`, *optional*): words that an answer may have; more of them cost. Words are what spaces separate.
        target (`int`, *optional*): words that it should have, in place of `limit`; fewer cost as much as more.
        penalty (`float`, *optional*): what a word costs. Defaults to 1 over the limit or target: twice as many words
            have the reward -1.
        name (`str`, *optional*, defaults to `"length"`): what the reward is logged under.

    Raises:
        ValueError: `limit` and `target` are both given, or neither; a value is out of range.
    """

    def __init__(
        self,
        limit: int | None = None,
        *,
        target: int | None = None,
        penalty: float | None = None,
        name: str = "length",
    ):
        super().__init__((), name)
        if (limit is None) == (target is None):
            raise ValueError(f"Give `limit` or `target`, one of them, got {limit} and {target}.")
        wanted = limit if limit is not None else target
        if not isinstance(wanted, int) or wanted < 1:
            raise ValueError(f"`{'target' if limit is None else 'limit'}` must be at least 1 word, got {wanted!r}.")
        if penalty is not None and not 0 < penalty < float("inf"):
            raise ValueError(f"`penalty` must be above 0 and finite, got {penalty}.")
        self.words, self.both_sides = wanted, limit is None
        self.penalty = 1 / wanted if penalty is None else penalty

    def reward(self, text: str, value: Any) -> float:
        beside = len(text.split()) - self.words
        return -self.penalty * (abs(beside) if self.both_sides else max(beside, 0))


class ObjectsReward(VerifiableReward):
    """
    How well the objects that an answer names are those of the image.

    Args:
        metric (`str`, *optional*, defaults to `"f1"`): `"f1"`, of the objects named against those of the image; or
            `"chair"`, the share of namings that the image bears out, which is 1 - CHAIR_i of the answer. The latter is
            1 for an answer that names nothing: mix it with another reward.
        vocabulary ([`ObjectVocabulary`] or `str` or `Path` or `Mapping[str, Iterable[str]]`, *optional*): which words
            name which object; a path of a file of them, or a mapping from the name of an object to its other names.
            Defaults to the 80 objects of COCO.
        column (`str`, *optional*, defaults to `"objects"`): column with the list of the objects in the image, by any
            of their names.
        name (`str`, *optional*, defaults to `"objects"`): what the reward is logged under.

    Raises:
        ValueError: `metric` is unknown, or the vocabulary cannot be read.
        FileNotFoundError: there is no such vocabulary.
    """

    def __init__(
        self,
        metric: str = "f1",
        *,
        vocabulary: ObjectVocabulary | str | Path | Mapping[str, Iterable[str]] | None = None,
        column: str = "objects",
        name: str = "objects",
    ):
        super().__init__((column,), name)
        if metric not in OBJECT_METRICS:
            raise ValueError(f"`metric` must be one of {', '.join(OBJECT_METRICS)}, got {metric!r}.")
        self.metric = metric
        if isinstance(vocabulary, Mapping):
            vocabulary = ObjectVocabulary(vocabulary)
        elif not isinstance(vocabulary, ObjectVocabulary):
            vocabulary = ObjectVocabulary.from_file(vocabulary)
        self.vocabulary = vocabulary

    def reward(self, text: str, value: Any) -> float:
        present = {self.canonical(name) for name in as_list(value) if name is not None}
        named = [mention.object for mention in self.vocabulary.mentions(text)]
        return OBJECT_METRICS[self.metric](named, present)

    def canonical(self, name: Any) -> str:
        """
        The name of an object in the vocabulary.

        Raises:
            ValueError: the vocabulary does not have it.
        """
        text = str(name).strip()
        if text in self.vocabulary.objects:
            return text
        found = self.vocabulary.mentions(text)
        if len(found) != 1 or (found[0].start, found[0].end) != (0, len(text)):
            raise ValueError(
                f"the object {shown(str(name), 100)!r} is not in the vocabulary. Give one that has it as `vocabulary`"
                ", or remove it from the rows."
            )
        return found[0].object


def f1(named: Sequence[str], present: set[str]) -> float:
    """F1 of the objects named (each counts once) against those present; 1 where there are none and none is named."""
    total = len(set(named)) + len(present)
    return 2 * len(present.intersection(named)) / total if total else 1.0


def borne_out(named: Sequence[str], present: set[str]) -> float:
    """Share of namings whose object is present; 1 without any."""
    return sum(name in present for name in named) / len(named) if named else 1.0


OBJECT_METRICS = {"f1": f1, "chair": borne_out}
VERIFIABLE_REWARDS: dict[str, type[VerifiableReward]] = {
    "yes_no": YesNoReward,
    "exact_match": ExactMatchReward,
    "format": FormatReward,
    "length": LengthReward,
    "objects": ObjectsReward,
}
