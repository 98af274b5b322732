"""The figures of [`PairLogProbs`] on the page: each with what it means for training."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from ..data.pair_statistics import histogram, percentiles
from .log_probs import PairLogProbs, accuracy
from .page import Page


MOST_GROUPS = 12  # values of a column that are shown, the commonest ones


def add_log_probs(page: Page, found: PairLogProbs, columns: Mapping[str, Sequence[str]] | None = None) -> None:
    """
    Add what a model makes of the pairs.

    Args:
        page ([`Page`]): the page.
        found ([`PairLogProbs`]): log-probabilities of at least one pair.
        columns (`Mapping[str, Sequence[str]]`, *optional*): columns by which pairs are grouped, such as `source`: the
            value of each pair.
    """
    page.heading(f"What {found.model} makes of the pairs")
    page.table(
        ["figure", "chosen", "rejected", "chosen less rejected"],
        [_figure(name, *values) for name, values in _figures(found).items()],
        caption=f"Median [5 %, 95 %] of {len(found):,} pairs; log-probabilities in nats",
    )
    page.table(
        ["judged by", "right", "pairs", "accuracy", "95 % interval"],
        [[name, *_accuracy(margins, found.identical)] for name, margins in found.judges.items()],
        caption="How often the model itself would prefer the chosen answer; pairs of equal answers are left out",
    )
    page.text(
        "At 50 % the model does not know which answer is better, and the pairs teach it. Near 100 % it prefers the "
        "chosen ones already, and the gradient is small. Far below 50 % it prefers what is called wrong: DPO then "
        "works hardest. A sum of log-probabilities favours the shorter answer; the mean per token does not."
    )
    for name, values in (columns or {}).items():
        _add_groups(page, found, name, values)
    _add_plots(page, found)


def _figures(found: PairLogProbs) -> dict[str, tuple[Sequence[float], Sequence[float], int]]:
    """By name, values of chosen and of rejected answers, and the digits that they are shown with."""
    figures: dict[str, tuple[Sequence[float], Sequence[float], int]] = {
        "log-probability": (found.chosen, found.rejected, 1),
        "log-probability per token": (*found.per_token, 3),
        "tokens": (found.chosen_tokens, found.rejected_tokens, 0),
        "tokens that are the model's first choice": (found.chosen_likeliest, found.rejected_likeliest, 3),
    }
    if found.reference is not None:
        figures["implicit reward over β"] = (*found.implicit_rewards, 2)
    return figures


def _figure(name: str, chosen: Sequence[float], rejected: Sequence[float], digits: int) -> list[str]:
    differences = [first - second for first, second in zip(chosen, rejected, strict=True)]
    return [name, *(_spread(values, digits) for values in (chosen, rejected, differences))]


def _accuracy(margins: Sequence[float], identical: Sequence[bool]) -> list[str | int | None]:
    right, total, share, interval = accuracy(margins, identical)
    if share is None or interval is None:
        return [right, total, None, None]
    return [right, total, f"{share:.1%}", f"[{interval[0]:.1%}, {interval[1]:.1%}]"]


def _add_groups(page: Page, found: PairLogProbs, column: str, values: Sequence[str]) -> None:
    """A line for each of the commonest values of a column, if there are several."""
    groups: dict[str, list[int]] = defaultdict(list)
    for place, value in enumerate(values):
        groups[value].append(place)
    if len(groups) < 2:
        return
    chosen, rejected = found.per_token
    rows = []
    common = sorted(groups.items(), key=lambda group: -len(group[1]))
    for value, places in common[:MOST_GROUPS]:
        identical = [found.identical[place] for place in places]
        accuracies = [_accuracy([m[place] for place in places], identical)[2] for m in found.judges.values()]
        means = [sum(side[place] for place in places) / len(places) for side in (chosen, rejected)]
        rows.append([value, len(places), *(f"{mean:.3f}" for mean in means), *accuracies])
    rest = len(groups) - len(rows)
    page.table(
        [column, "pairs", "chosen", "rejected", *(name.partition(" against ")[0] for name in found.judges)],
        rows,
        caption=f"By {column}: mean log-probability per token, and accuracies" + (f"; {rest} more" if rest else ""),
    )


def _add_plots(page: Page, found: PairLogProbs) -> None:
    chosen, rejected = found.per_token
    plots: list[tuple[str, Sequence[float], str]] = [
        (
            "Log-probability of a token of chosen answers",
            chosen,
            "Near zero, answers that the model would write itself; far below, answers of others (off-policy), whose "
            "style DPO moves it to, beside what is right.",
        ),
        (
            "Log-probability of a token of rejected answers",
            rejected,
            "Far below, answers that the model never gives: to make them less likely changes little of what it says.",
        ),
        (
            "Log-probability of chosen less that of rejected",
            found.margins,
            "To the right, pairs that the model ranks as the data do. Long answers lie further from zero.",
        ),
    ]
    if found.reference is not None:
        plots.append(
            (
                "Implicit reward of chosen less that of rejected, over β",
                found.judges[f"implicit reward against {found.reference}"],
                f"What training has taught beside {found.reference}; around zero before any training.",
            )
        )
    for title, values, meaning in plots:
        page.bars(title, histogram(values), label="nats", unit="pairs")
        page.text(meaning)


def _spread(values: Sequence[float], digits: int) -> str:
    low, middle, high = (f"{value:,.{digits}f}" for value in percentiles(values))
    return f"{middle} [{low}, {high}]"
