"""How often a judge prefers the chosen answer of a preference dataset (Table 10 of arXiv 2407.02477)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from tqdm.auto import tqdm

from ..data.fingerprints import rows_digest
from ..data.images import with_open_images
from ..data.pair_statistics import wilson_interval
from ..data.protocols import OUTCOMES, PairwiseJudge, Verdict, judge_pairs
from ..data.rows import message_text
from ..data.seeds import derived_seed
from ..data.shards import write_shards
from ..data.tables import undecoded


def judge_dataset(
    judge: PairwiseJudge,
    dataset: Dataset,
    folder: str | Path,
    settings: Mapping[str, Any],
    *,
    seed: int = 0,
    shard_size: int = 64,
    rank: int = 0,
    world_size: int = 1,
) -> None:
    """
    Have a judge compare the answers of every row and keep its verdicts.

    Args:
        judge ([`PairwiseJudge`]): the judge.
        dataset (`datasets.Dataset`): preference rows.
        folder (`str` or `Path`): where the verdicts are kept; a killed run's folder is resumed.
        settings (`Mapping[str, Any]`): what determines the verdicts besides the rows and `seed`: model, revision, ...
        seed (`int`, *optional*, defaults to `0`): which answer of a row comes first derives from it and the row id.
        shard_size (`int`, *optional*, defaults to `64`): rows per shard, which the judge gets at once.
        rank (`int`, *optional*, defaults to `0`): this process.
        world_size (`int`, *optional*, defaults to `1`): number of processes.

    [`read_verdicts`] reads them once all processes are done.

    Raises:
        ValueError: the folder was made with other settings, or the judge returned something that is no verdict.
        JudgeUnavailable: the judge cannot answer now. Finished shards stay.
    """
    stored = undecoded(dataset)
    shares = [len(range(start, min(start + shard_size, len(dataset)))) for start in range(0, len(dataset), shard_size)]
    bar = tqdm(total=sum(shares[rank::world_size]), desc="judge", unit="pair", disable=rank != 0)

    def transform(rows):
        # 0 or 1: where the chosen answer stands
        chosen_at = [derived_seed(seed, "which answer is first", row["row_id"]) % 2 for row in rows]
        pairs = [
            tuple(_text(row[name]) for name in (("rejected", "chosen") if place else ("chosen", "rejected")))
            for row, place in zip(rows, chosen_at, strict=True)
        ]
        images = [with_open_images(row)["images"] for row in rows]
        verdicts = judge_pairs(judge, [row["prompt"] for row in rows], images, pairs)
        return [
            judged_row(row["row_id"], place, verdict)
            for row, place, verdict in zip(rows, chosen_at, verdicts, strict=True)
        ]

    digest = rows_digest(stored, ("row_id", "images", "prompt", "chosen", "rejected"))
    try:
        write_shards(
            folder,
            stored,
            transform,
            {**settings, "seed": seed, "rows": digest},
            shard_size=shard_size,
            rank=rank,
            world_size=world_size,
            on_shard=lambda shard, num_rows: bar.update(num_rows),
        )
    finally:
        bar.close()


def judged_row(row_id: str, chosen_at: int, verdict: Verdict) -> dict[str, Any]:
    """
    A verdict as it is kept.

    Args:
        row_id (`str`): which row it is of.
        chosen_at (`int`): 0 if the chosen answer was given to the judge as the first of the pair, 1 if as the second.
        verdict ([`Verdict`]): what the judge says.

    Returns:
        `dict[str, Any]`
    """
    first = verdict.first_order or verdict
    return {
        "row_id": row_id,
        "chosen_at": chosen_at,
        "choice": verdict.choice,
        "outcome": verdict.outcome,
        "correct": _correct(verdict, chosen_at),
        "first_outcome": first.outcome,
        "first_correct": _correct(first, chosen_at),
        "places": list(verdict.places),
        "text": verdict.text,
    }


def read_verdicts(folder: str | Path) -> list[dict[str, Any]]:
    """Verdicts of a finished folder of [`judge_dataset`], in the order of the rows."""
    return Dataset.from_parquet(sorted(str(path) for path in Path(folder).glob("shard-*.parquet"))).to_list()


def judge_scores(
    verdicts: Sequence[Mapping[str, Any]], level: float = 0.95, groups: Sequence[str] | None = None
) -> dict[str, Any]:
    """
    Accuracy of a judge, and what it says where it does not decide.

    The paper's figure (Table 10) is an accuracy in one order. Of a judge that was asked in both orders it is what the
    first reply says alone, whatever the second one does; unlike the paper's annotator it may have called a tie. Of a
    judge that was asked once, or does not say in which orders, it is the accuracy itself. Answers that are the same
    are a tie in both.

    Args:
        verdicts (`Sequence[Mapping]`): rows with `outcome`, `correct` and `places`, and `first_outcome` and
            `first_correct` for one order, as [`read_verdicts`] returns them.
        level (`float`, *optional*, defaults to `0.95`): level of the confidence intervals. They take rows for
            independent: several pairs of one image make them too narrow.
        groups (`Sequence[str]`, *optional*): group of each row, such as those of VL-RewardBench.

    Returns:
        `dict`: `num_pairs`, `num_decided`, `accuracy_decided` (of the pairs with a clear verdict), `accuracy_all` (a
        pair without one counts as wrong), their `intervals`; `tie_rate`, `invalid_rate` and `inconsistent_rate` of all
        pairs; `one_order`, a `dict` of the same figures for the first order alone, where `num_decided` are the pairs
        whose first reply names one of the two, `tie_rate` and `invalid_rate` are those of the first replies, and
        nothing can be inconsistent; and `first_place_share`, the share of the answer that is shown first among all
        that are preferred, over all orders: 0.5 without position bias. With groups also `groups`, a `dict` from each
        to its figures, `macro_accuracy_all`, the mean of their `accuracy_all`, which VL-RewardBench calls macro, and
        `macro_accuracy_decided`. What there is nothing to compute from is `None`.
    """
    places = [place for row in verdicts for place in row["places"] or () if place is not None]
    first = [(row["first_outcome"], row["first_correct"]) for row in verdicts if "first_outcome" in row]
    return {
        "num_pairs": len(verdicts),
        **_shares([(row["outcome"], row["correct"]) for row in verdicts], OUTCOMES, level),
        "one_order": _shares(first, ("tie", "invalid"), level),
        "first_place_share": _share(places.count(0), len(places)),
        **({} if groups is None else _by_group(verdicts, groups, level)),
    }


def _by_group(verdicts: Sequence[Mapping[str, Any]], groups: Sequence[str], level: float) -> dict[str, Any]:
    """Figures of each group, and their means over the groups."""
    said: dict[str, list[tuple[str, bool | None]]] = {}
    for row, group in zip(verdicts, groups, strict=True):
        said.setdefault(group, []).append((row["outcome"], row["correct"]))
    found = {group: {"num_pairs": len(rows), **_shares(rows, OUTCOMES, level)} for group, rows in sorted(said.items())}
    means: dict[str, float | None] = {}
    for name in ("accuracy_all", "accuracy_decided"):
        values = [figures[name] for figures in found.values()]
        means[f"macro_{name}"] = None if None in values or not values else sum(values) / len(values)
    return {"groups": found, **means}


def _shares(said: Sequence[tuple[str, bool | None]], outcomes: Sequence[str], level: float) -> dict[str, Any]:
    """Accuracies with intervals, and the rates of `outcomes` that are not clear, from pairs of outcome and correct."""
    counts = {outcome: sum(told == outcome for told, _ in said) for outcome in OUTCOMES}
    correct = sum(right is True for _, right in said)
    return {
        "num_decided": counts["clear"],
        "accuracy_decided": _share(correct, counts["clear"]),
        "accuracy_all": _share(correct, len(said)),
        "intervals": {
            "accuracy_decided": wilson_interval(correct, counts["clear"], level),
            "accuracy_all": wilson_interval(correct, len(said), level),
        },
        **{f"{outcome}_rate": _share(counts[outcome], len(said)) for outcome in outcomes if outcome != "clear"},
    }


def _share(count: int, total: int) -> float | None:
    return count / total if total else None


def _correct(verdict: Verdict, chosen_at: int) -> bool | None:
    return None if verdict.choice is None else verdict.choice == chosen_at


def _text(messages: Sequence[dict[str, Any]]) -> str:
    return "\n".join(map(message_text, messages)).strip()
