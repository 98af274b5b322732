"""Verdicts from reward functions: the answer with the higher reward is better."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..data.protocols import Verdict
from .prompts import Images, Pair, Prompt


class RewardJudge:
    """
    A judge that compares the rewards of two answers.

    A function that returns `None` (or NaN) for both answers to a prompt has nothing to say of them and is left out, as
    in TRL. One that returns it for one of them makes the pair invalid, and so does no reward at all.

    Args:
        reward_funcs (`Callable` or `list[Callable]`): reward functions as in TRL: `f(prompts=…, completions=…,
            images=…) -> list[float | None]`, prompts and completions being lists of messages.
        weights (`list[float]`, *optional*): weight of each function in the sum; defaults to 1.0 each.

    Raises:
        ValueError: a reward function cannot be called, or there are not as many weights as functions.
    """

    def __init__(
        self,
        reward_funcs: Callable[..., Any] | list[Callable[..., Any]] | tuple[Callable[..., Any], ...],
        weights: Sequence[float] | None = None,
    ):
        self.reward_funcs = list(reward_funcs) if isinstance(reward_funcs, list | tuple) else [reward_funcs]
        self.weights = [1.0] * len(self.reward_funcs) if weights is None else list(weights)
        for function in self.reward_funcs:
            if not callable(function) or hasattr(function, "parameters"):
                raise ValueError(
                    f"`reward_funcs` must be functions, got {type(function).__name__}. Pass a reward model to the "
                    "trainer as `reward_funcs` instead of a judge."
                )
        if not self.reward_funcs or len(self.weights) != len(self.reward_funcs):
            raise ValueError(
                f"`weights` must have one number for each of `reward_funcs`, got {len(self.weights)} for "
                f"{len(self.reward_funcs)}."
            )

    def judge(
        self, prompts: Sequence[Prompt], images: Sequence[Images], answer_pairs: Sequence[Pair]
    ) -> list[int | None]:
        """As in [`PairwiseJudge`]."""
        return [verdict.choice for verdict in self.verdicts(prompts, images, answer_pairs)]

    def verdicts(
        self, prompts: Sequence[Prompt], images: Sequence[Images], answer_pairs: Sequence[Pair]
    ) -> list[Verdict]:
        """Verdicts (`list[Verdict]`) whose text says the rewards; arguments as in [`PairwiseJudge`]."""
        answers = [pair[place] for place in (0, 1) for pair in answer_pairs]
        given = {
            "prompts": [*prompts, *prompts],
            "completions": [[{"role": "assistant", "content": answer}] for answer in answers],
            "images": [*images, *images],
        }
        rewards = [self._rewards(function, given) for function in self.reward_funcs]
        count = len(answer_pairs)
        return [self._verdict([(row[i], row[count + i]) for row in rewards]) for i in range(count)]

    def _rewards(self, function: Callable[..., Any], given: Mapping[str, Any]) -> list[float]:
        rewards = [math.nan if reward is None else float(reward) for reward in function(**given)]
        if len(rewards) != len(given["completions"]):
            name = getattr(function, "__name__", type(function).__name__)
            raise ValueError(
                f"The reward function `{name}` returned {len(rewards)} rewards for {len(given['completions'])} "
                "completions. Return one for each, `None` where it has nothing to say."
            )
        return rewards

    def _verdict(self, pairs: Sequence[tuple[float, float]]) -> Verdict:
        """Verdict from the rewards of both answers, one pair for each function."""
        weighted = [
            (weight * first, weight * second)
            for weight, (first, second) in zip(self.weights, pairs, strict=True)
            if not (math.isnan(first) and math.isnan(second))
        ]
        first, second = (sum(rewards) for rewards in zip(*weighted, strict=True)) if weighted else (math.nan, math.nan)
        text = f"rewards {first:g} and {second:g}"
        if math.isnan(first) or math.isnan(second):
            return Verdict(None, "invalid", text)
        return Verdict(None, "tie", text) if first == second else Verdict(int(second > first), "clear", text)
