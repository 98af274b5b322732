"""What a model makes of preference pairs: how likely their answers are, and which of the two it would prefer."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..data.pair_statistics import wilson_interval


@dataclass
class PairLogProbs:
    """
    What a model makes of both answers of pairs. Lists have one value per pair; log-probabilities are in nats.

    Attributes:
        model (`str`): name of the model.
        rows (`list[int]`): numbers of the rows in their dataset.
        identical (`list[bool]`): whether both answers are the same: no model can prefer one.
        chosen, rejected (`list[float]`): log-probabilities of the answers, summed over their tokens.
        chosen_tokens, rejected_tokens (`list[int]`): tokens of the answers, with what the chat template writes behind.
        chosen_likeliest, rejected_likeliest (`list[float]`): share of the tokens that are the model's first choice.
        reference (`str`, *optional*): name of the reference model.
        reference_chosen, reference_rejected (`list[float]`): its log-probabilities; empty without it.
    """

    model: str
    rows: list[int] = field(default_factory=list)
    identical: list[bool] = field(default_factory=list)
    chosen: list[float] = field(default_factory=list)
    rejected: list[float] = field(default_factory=list)
    chosen_tokens: list[int] = field(default_factory=list)
    rejected_tokens: list[int] = field(default_factory=list)
    chosen_likeliest: list[float] = field(default_factory=list)
    rejected_likeliest: list[float] = field(default_factory=list)
    reference: str | None = None
    reference_chosen: list[float] = field(default_factory=list)
    reference_rejected: list[float] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def margins(self) -> list[float]:
        """Log-probability of chosen less that of rejected."""
        return _differences(self.chosen, self.rejected)

    @property
    def per_token(self) -> tuple[list[float], list[float]]:
        """Log-probability of a token of the chosen and of the rejected answers, on average."""
        return _means(self.chosen, self.chosen_tokens), _means(self.rejected, self.rejected_tokens)

    @property
    def implicit_rewards(self) -> tuple[list[float], list[float]]:
        """Implicit rewards of DPO of the chosen and of the rejected answers, over beta: log π/π_ref."""
        return (
            _differences(self.chosen, self.reference_chosen),
            _differences(self.rejected, self.reference_rejected),
        )

    @property
    def judges(self) -> dict[str, list[float]]:
        """By each way to judge pairs, how much better the chosen answer of each pair comes out."""
        found = {"more likely": self.margins, "more likely per token": _differences(*self.per_token)}
        if self.reference is not None:
            found[f"implicit reward against {self.reference}"] = _differences(*self.implicit_rewards)
        return found


def accuracy(
    margins: Sequence[float], identical: Sequence[bool]
) -> tuple[int, int, float | None, tuple[float, float] | None]:
    """
    How often the chosen answer comes out better.

    Args:
        margins (`Sequence[float]`): value of the chosen answer less that of the rejected one, for each pair.
        identical (`Sequence[bool]`): pairs that are left out.

    Returns:
        `(int, int, float, tuple[float, float])`: pairs that are judged right, as TRL's `rewards/accuracies` counts
        them, pairs that are judged, their share and its 95 % interval, which takes pairs for independent; `None` if
        there is no pair.
    """
    right = [margin > 0 for margin, same in zip(margins, identical, strict=True) if not same]
    share = sum(right) / len(right) if right else None
    return sum(right), len(right), share, wilson_interval(sum(right), len(right))


def judged(found: PairLogProbs) -> list[str]:
    """How the model judges the pairs, a line each (`list[str]`)."""
    lines = []
    for name, margins in found.judges.items():
        right, total, share, interval = accuracy(margins, found.identical)
        if share is None or interval is None:
            lines.append(f"{found.model}, {name}: no pair to judge")
            continue
        low, high = interval
        lines.append(
            f"{found.model}, {name}: chosen is preferred in {right:,} of {total:,} pairs, {share:.1%} [{low:.1%}, "
            f"{high:.1%}]"
        )
    return lines


def _differences(left: Sequence[float], right: Sequence[float]) -> list[float]:
    return [first - second for first, second in zip(left, right, strict=True)]


def _means(sums: Sequence[float], counts: Sequence[int]) -> list[float]:
    return [total / max(1, count) for total, count in zip(sums, counts, strict=True)]
