import pytest

from trl_mm.report.log_probs import PairLogProbs, accuracy, judged
from trl_mm.report.log_probs_page import MOST_GROUPS, add_log_probs
from trl_mm.report.page import Page


def found(**more):
    """Three pairs: the longer answer is chosen; the model prefers it per token only; and equal answers."""
    return PairLogProbs(
        "mine",
        rows=[0, 1, 2],
        identical=[False, False, True],
        chosen=[-4.0, -3.0, -2.0],
        rejected=[-9.0, -2.0, -2.1],
        chosen_tokens=[4, 6, 2],
        rejected_tokens=[3, 2, 2],
        chosen_likeliest=[0.5, 0.5, 1.0],
        rejected_likeliest=[0.0, 0.5, 1.0],
        **more,
    )


def reference():
    return {"reference": "base", "reference_chosen": [-4.5, -5.0, -2.0], "reference_rejected": [-9.0, -3.0, -2.0]}


def parts(page, kind):
    return [part for part in page._parts if part["kind"] == kind]


def test_each_way_to_judge_counts_its_own_pairs():
    result = found(**reference())
    assert result.margins == pytest.approx([5, -1, 0.1])
    right = {name: accuracy(margins, result.identical)[:3] for name, margins in result.judges.items()}
    assert right == {
        "more likely": (1, 2, 0.5),
        "more likely per token": (2, 2, 1.0),
        "implicit reward against base": (2, 2, 1.0),
    }
    assert result.implicit_rewards[0] == pytest.approx([0.5, 2.0, 0.0])


def test_a_margin_of_zero_is_not_right_as_in_trl():
    assert accuracy([0.0, 1.0], [False, False])[:3] == (1, 2, 0.5)
    assert accuracy([1.0], [True]) == (0, 0, None, None)


def test_lines_say_shares_with_their_intervals():
    assert judged(found())[0].startswith("mine, more likely: chosen is preferred in 1 of 2 pairs, 50.0% [9.5%, 90.5%]")
    same = found()
    same.identical = [True] * 3
    assert judged(same) == ["mine, more likely: no pair to judge", "mine, more likely per token: no pair to judge"]


def test_the_page_shows_figures_groups_and_histograms():
    page = Page("t")
    add_log_probs(page, found(**reference()), {"source": ["coco", "vg", "coco"], "dataset": ["one"] * 3})
    figures, judges, groups = parts(page, "table")
    assert figures["rows"][0] == ["log-probability", "-3.0 [-4.0, -2.0]", "-2.1 [-9.0, -2.0]", "0.1 [-1.0, 5.0]"]
    rewards = ["implicit reward over β", "0.50 [0.00, 2.00]", "0.00 [-0.10, 1.00]", "0.50 [0.10, 1.00]"]
    assert rewards in figures["rows"]
    assert [row[0] for row in judges["rows"]] == list(found(**reference()).judges)
    assert groups["rows"][0] == ["coco", "2", "-1.000", "-2.025", "100.0%", "100.0%", "100.0%"]
    assert len(parts(page, "bars")) == 4


def test_of_many_groups_the_commonest_are_shown():
    page, many = Page("t"), MOST_GROUPS + 3
    sides = {name: [0.5] * many for name in ("chosen", "rejected", "chosen_likeliest", "rejected_likeliest")}
    counts = {name: [1] * many for name in ("chosen_tokens", "rejected_tokens")}
    values = PairLogProbs("m", list(range(many)), [False] * many, **sides, **counts)
    add_log_probs(page, values, {"source": list(map(str, range(many)))})
    groups = parts(page, "table")[-1]
    assert len(groups["rows"]) == MOST_GROUPS and "3 more" in groups["caption"]
