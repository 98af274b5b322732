"""The exact sign test of two models on the same questions (McNemar 1947, in its exact form)."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class SignTest:
    """
    Answers that two models differ in.

    Args:
        gained (`int`): questions that the model answers right and the one it is compared with wrong.
        lost (`int`): questions of the other kind.
    """

    gained: int
    lost: int

    @property
    def p_value(self) -> float:
        """
        Two-sided p-value (`float`) of "a question that they differ in is as likely gained as lost": twice the binomial
        tail, at most 1.0. Questions count as independent of one another. Where several are asked of one image they are
        not, and the bootstrap interval over images says more.
        """
        differing, fewer = self.gained + self.lost, min(self.gained, self.lost)
        tail, coefficient = 0, 1  # whole numbers: floats underflow from some thousand questions on
        for count in range(fewer + 1):
            tail += coefficient
            coefficient = coefficient * (differing - count) // (count + 1)
        return min(1.0, 2 * tail / 2**differing)


def sign_test(correct: Sequence[int], correct_of_other: Sequence[int]) -> SignTest:
    """
    Counts what [`SignTest`] compares.

    Args:
        correct (`Sequence[int]`): 1 for each right answer of the model, else 0.
        correct_of_other (`Sequence[int]`): the same of the model that it is compared with, to the same questions.

    Raises:
        ValueError: the lengths differ.
    """
    if len(correct) != len(correct_of_other):
        raise ValueError(
            f"`correct` has {len(correct)} answers and `correct_of_other` {len(correct_of_other)}: both models must "
            "have answered the same questions."
        )
    pairs = [(bool(one), bool(other)) for one, other in zip(correct, correct_of_other, strict=True)]
    return SignTest(gained=pairs.count((True, False)), lost=pairs.count((False, True)))
