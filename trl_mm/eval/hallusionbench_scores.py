"""How answers to HallusionBench are read, and counted by question, figure and pair of questions."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from .per_image import sums_per_image
from .pope_scores import parse_yes_no


RIGHT, WRONG, UNCERTAIN = 1, 0, 2  # as the published files write it
KEYS = ("category", "subcategory", "set_id", "figure_id", "question_id")


def hallusion_correctness(answer: str, label: int) -> int | None:
    """
    Reads an answer without a judge: by its first word as [`parse_yes_no`] does, or "1", "0" and "2" for yes, no and
    uncertain, which the authors' template of an answer file uses.

    Args:
        answer (`str`):
            What the model said.
        label (`int`):
            1 if yes is right, 0 if no is.

    Returns:
        `int` or `None`: 1 for right, 0 for wrong, 2 for uncertain, `None` for an answer that cannot be read.
    """
    said = {"1": "yes", "0": "no", "2": "uncertain"}.get(answer.strip(), parse_yes_no(answer))
    if said is None or said == "uncertain":
        return None if said is None else UNCERTAIN
    return int((said == "yes") == bool(label))


def is_correct(row: Mapping[str, Any], correctness: int | None) -> int:
    """1 or 0; where there is no figure to look at, being uncertain is right, as in the published scorer."""
    no_figure = row["category"] == "VS" and str(row["figure_id"]) == "0"
    return int(correctness == RIGHT or (no_figure and correctness == UNCERTAIN))


def hallusion_groups(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Hashable | None]]:
    """
    What questions belong to.

    Args:
        rows (`Sequence[Mapping[str, Any]]`):
            With `KEYS` and `visual_input`: 0 for no figure, 1 for an original and 2 for an edited one.

    Returns:
        `dict[str, list[str | None]]`: for each row

        - `set`: an original figure with the edited ones. They are no independent draws.
        - `figure`: `None` for questions without one.
        - `pair`: one question over all figures of a set.
        - `easy`, `hard`: its pair, among the questions about no or an original figure, and among those about edited
          ones; `None` for those of the other kind.
    """
    groups: dict[str, list[Hashable | None]] = {name: [] for name in ("set", "figure", "pair", "easy", "hard")}
    for row in rows:
        category, subcategory, set_, figure, question = (str(row[key]) for key in KEYS)
        pair = f"{category}_{subcategory}_{set_}_{question}"
        hard = str(row["visual_input"]) == "2"
        groups["set"].append(f"{category}_{subcategory}_{set_}")
        no_figure = category == "VS" and figure == "0"
        groups["figure"].append(None if no_figure else f"{category}_{subcategory}_{set_}_{figure}")
        groups["pair"].append(pair)
        groups["easy"].append(None if hard else pair)
        groups["hard"].append(pair if hard else None)
    return groups


def all_right(
    groups: Sequence[Hashable | None], sets: Sequence[Hashable], correct: Sequence[int]
) -> tuple[list[float], list[float]]:
    """
    Counts groups of which every question is right.

    Args:
        groups (`Sequence[Hashable | None]`):
            Group of each question; `None` is left out.
        sets (`Sequence[Hashable]`):
            Set of each question, for the bootstrap.
        correct (`Sequence[int]`):
            1 for each right answer, else 0.

    Returns:
        `tuple[list[float], list[float]]`: for each set, groups all right, and groups.
    """
    wholes: dict[Hashable, int] = {}
    belongs = {}
    for group, set_, right in zip(groups, sets, correct, strict=True):
        if group is not None:
            wholes[group] = min(right, wholes.get(group, 1))
            belongs[group] = set_
    # Sets without such a group count nothing, and stand in their place: all metrics have the same sets
    order = list(dict.fromkeys(sets))
    padded = [*order, *belongs.values()]
    nothing = [0] * len(order)
    above, below = sums_per_image(padded, [*nothing, *wholes.values()], [*nothing, *[1] * len(wholes)])
    return above, below
