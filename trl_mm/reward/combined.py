"""Reward functions made of others: a weighted sum, and rewards on the scale of a dataset."""

import inspect
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any


RewardFunction = Callable[..., Sequence[float | None]]
ANSWERS = ("chosen", "rejected", "completion")


class WeightedReward:
    """
    The weighted sum of several reward functions, as one.

    A function that has nothing to say of an answer (`None` or NaN) is left out of its sum, as in TRL; the reward is
    `None` where none of them has.

    Args:
        weights (`Mapping[Callable, float]`): weight of each reward function.
        name (`str`, *optional*, defaults to `"weighted"`): what the sum is logged under.

    Raises:
        ValueError: there is no function, one cannot be called or is a model, or a weight is not finite.
    """

    def __init__(self, weights: Mapping[RewardFunction, float], *, name: str = "weighted"):
        self.__name__ = name
        self.terms = [(checked_function(function), float(weight)) for function, weight in weights.items()]
        if not self.terms:
            raise ValueError("`weights` is empty. Give at least one reward function its weight.")
        for function, weight in self.terms:
            if not math.isfinite(weight):
                raise ValueError(f"The weight of `{name_of(function)}` must be finite, got {weight}.")

    def __call__(self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float | None]:
        """
        Args:
            prompts (`list`): the prompts.
            completions (`list`): the answers.
            **columns: what TRL gives reward functions besides, such as `images` and other columns of the rows.

        Returns:
            `list[float | None]`: a reward for each answer.

        Raises:
            ValueError: a function returns another number of rewards.
        """
        rewards = [(rewards_of(function, prompts, completions, columns), weight) for function, weight in self.terms]
        sums: list[float | None] = []
        for index in range(len(completions)):
            terms = [weight * row[index] for row, weight in rewards if not math.isnan(row[index])]
            sums.append(sum(terms) if terms else None)
        return sums


class NormalizedReward:
    """
    A reward function on another scale: less a mean, over a standard deviation, as rewards for RLOO are in
    arXiv 2407.02477. [`measured`] says both of a dataset.

    Args:
        function (`Callable`): the reward function.
        mean (`float`): its mean.
        std (`float`): its standard deviation.
        name (`str`, *optional*): what the reward is logged under; defaults to the name of the function.

    Raises:
        ValueError: `function` cannot be called or is a model, `mean` is not finite, or `std` is not above 0.
    """

    def __init__(self, function: RewardFunction, mean: float, std: float, *, name: str | None = None):
        self.function = checked_function(function)
        if not math.isfinite(mean):
            raise ValueError(f"`mean` must be finite, got {mean}.")
        if not 0 < std < math.inf:
            raise ValueError(f"`std` must be above 0 and finite, got {std}: rewards that are all equal say nothing.")
        self.mean, self.std = mean, std
        self.__name__ = name_of(function) if name is None else name

    def __call__(self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float | None]:
        """As [`WeightedReward.__call__`]."""
        rewards = rewards_of(self.function, prompts, completions, columns)
        return [None if math.isnan(reward) else (reward - self.mean) / self.std for reward in rewards]


def measured(
    function: RewardFunction, rows: Iterable[Mapping[str, Any]], *, batch_size: int = 8
) -> tuple[float, float]:
    """
    Mean and standard deviation (of the population) of the rewards of all answers in a dataset.

    Args:
        function (`Callable`): a reward function.
        rows (`datasets.Dataset` or `list[dict]`): rows with `prompt`, and with `chosen`, `rejected` or `completion`;
            those that are there are scored.
        batch_size (`int`, *optional*, defaults to `8`): rows that the function gets together.

    Returns:
        `tuple[float, float]`: mean and standard deviation; rewards that are `None` do not count.

    Raises:
        ValueError: rows have no answer, or no answer a reward; a reward is infinite, or there are not as many as
            answers.
    """
    return mean_and_deviation(name_of(function), rewards_of_rows(function, rows, batch_size=batch_size))


def rewards_of_rows(
    function: RewardFunction, rows: Iterable[Mapping[str, Any]], *, batch_size: int = 8
) -> list[float]:
    """Rewards (`list[float]`) of all answers in a dataset, without those that are `None`; arguments as above."""
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be at least 1, got {batch_size}.")
    checked_function(function)
    rewards: list[float] = []
    left = iter(rows)
    while batch := list(islice(left, batch_size)):
        for answer in ANSWERS:
            answered = [row for row in batch if row.get(answer) is not None]
            if answered:
                prompts = [row.get("prompt") for row in answered]
                rewards += rewards_of(function, prompts, [row[answer] for row in answered], columns_of(answered))
    return [reward for reward in rewards if not math.isnan(reward)]


def mean_and_deviation(name: str, rewards: Sequence[float]) -> tuple[float, float]:
    """
    Mean and standard deviation of rewards (`tuple[float, float]`), which a function with a name gave.

    Raises:
        ValueError: there is none, or one is infinite.
    """
    if not rewards:
        raise ValueError(
            f"`{name}` gave no answer of `rows` a reward. Pass rows with one of {', '.join(ANSWERS)}, "
            "and with the column that it looks at."
        )
    if not all(map(math.isfinite, rewards)):
        raise ValueError(f"`{name}` gave infinite rewards, which have no mean. Limit them.")
    return statistics.fmean(rewards), statistics.pstdev(rewards)


def columns_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Columns of rows beside prompt and answers, as TRL gives them to reward functions."""
    taken = {*ANSWERS, "prompt", "prompts", "completions"}
    names = dict.fromkeys(name for row in rows for name in row if name not in taken)
    return {name: [row.get(name) for row in rows] for name in names}


def rewards_of(
    function: RewardFunction, prompts: Sequence[Any], completions: Sequence[Any], columns: Mapping[str, Any]
) -> list[float]:
    """
    Rewards (`list[float]`), NaN where a function has nothing to say.

    Raises:
        ValueError: there are not as many as completions.
    """
    given = function(prompts=prompts, completions=completions, **columns)
    rewards = [math.nan if reward is None else float(reward) for reward in given]
    if len(rewards) != len(completions):
        raise ValueError(
            f"The reward function `{name_of(function)}` returned {len(rewards)} rewards for {len(completions)} "
            "completions. Return one for each, `None` where it has nothing to say."
        )
    return rewards


def checked_function(function: Any) -> RewardFunction:
    """
    The function itself.

    Raises:
        ValueError: it cannot be called as a reward function is.
    """
    if not callable(function) or hasattr(function, "parameters"):
        raise ValueError(
            f"A reward must be a function, got {type(function).__name__}. A model becomes one by "
            "`RewardModel(model, processor)`."
        )
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__):
        raise ValueError(f"`{name_of(function)}` is asynchronous. Pass it to the trainer beside the others.")
    return function


def name_of(function: Any) -> str:
    """What TRL logs a reward function under."""
    return str(getattr(function, "__name__", type(function).__name__))
