import json
from dataclasses import replace

import pytest
from support.measured import benchmarks_measured, measured

from trl_mm.eval.intervals import bootstrap_ratio, paired_difference
from trl_mm.eval.pope import PopeBenchmark
from trl_mm.eval.results import Figure, MetricRow, as_json, compare_results
from trl_mm.eval.sign_test import SignTest


BASE = measured("base", wrong=range(0, 30), ghosts=range(20))
ALIGNED = measured("aligned", wrong=range(25, 35), ghosts=range(4))


def compared(*models, benchmarks=None, **settings):
    return compare_results(models, benchmarks or benchmarks_measured(), **settings)


def row(comparison, key):
    (found,) = (row for row in comparison.rows if row.key == key)
    return found


def test_figures_are_those_of_the_counts():
    comparison = compared(BASE, ALIGNED, seed=3)
    keys = ["ghost_share", "ghost_dogs", "ghost_words", "pope_f1", "pope_accuracy", "pope_yes_share"]
    assert [row.key for row in comparison.rows] == keys  # without what is in only one of `metrics` and `metric_parts`
    ghosts = row(comparison, "ghost_share")
    assert (ghosts.figures["base"].value, ghosts.figures["aligned"].value) == (20 / 60, 4 / 44)
    parts = [benchmarks_measured()["ghost"].metric_parts(model.scores["ghost"]) for model in (BASE, ALIGNED)]
    assert ghosts.figures["base"].interval == bootstrap_ratio(*parts[0]["ghost_share"], seed=3)
    difference = ghosts.figures["aligned"].difference_interval
    assert difference == paired_difference(parts[1]["ghost_share"], parts[0]["ghost_share"], seed=3)
    assert ghosts.figures["aligned"].difference == pytest.approx(4 / 44 - 20 / 60)
    assert ghosts.figures["base"].difference is ghosts.figures["base"].difference_interval is None
    f1 = row(comparison, "pope_f1").figures
    assert f1["aligned"].value == pytest.approx(PopeBenchmark.overall(ALIGNED.scores["pope"], seed=3)["pope_f1"])
    assert f1["base"].interval == PopeBenchmark.overall(BASE.scores["pope"], seed=3)["pope_intervals"]["pope_f1"]


def test_signs_are_counted_question_by_question():
    comparison = compared(BASE, ALIGNED)
    assert comparison.signs == {"pope": {"aligned": SignTest(gained=25, lost=5)}}
    assert compared(BASE).signs == {}


@pytest.mark.parametrize(
    ("better", "interval", "verdict"),
    [
        ("higher", (0.1, 0.2), "better"),
        ("higher", (-0.2, -0.1), "worse"),
        ("lower", (0.1, 0.2), "worse"),
        ("lower", (-0.2, -0.1), "better"),
        ("neither", (0.1, 0.2), ""),
        ("higher", (-0.1, 0.2), ""),
        ("lower", (0.0, 0.2), ""),
        ("lower", None, ""),
    ],
)
def test_a_verdict_is_an_interval_without_zero(better, interval, verdict):
    metric = replace(benchmarks_measured()["ghost"].metrics["ghost_share"], better=better)
    figures = {"a": Figure(0.5, (0.4, 0.6), None if interval is None else 0.15, interval)}
    found = MetricRow("ghost", "Ghosts", "ghost_share", metric, figures)
    assert (found.verdict("a"), found.verdict("b")) == (verdict, "")


def test_the_paper_stands_beside_the_same_metric_only():
    comparison = compared(BASE, paper_row="bdhs attention 5k")
    assert comparison.paper_row == "BDHS attention, 5k"
    assert [(row.key, row.paper.value) for row in comparison.rows if row.paper] == [("pope_f1", 88.75)]
    part = compared(BASE, paper_row="bdhs attention 5k", limit=50)
    assert part.notes == [
        "The paper's figures and their ± are of whole benchmarks; here the first images (50) of each were asked "
        "about, other questions than the paper's."
    ]
    assert comparison.notes == compared(BASE, limit=50).notes == []
    own = compared(BASE, benchmarks={"pope": PopeBenchmark()}, paper_row="BDHS attention, 5k")
    assert not any(row.paper for row in own.rows)
    assert own.notes == [
        "POPE: the paper asked other questions, so its figure is not shown.",
        'Nothing of the paper\'s row "BDHS attention, 5k" was measured.',
    ]
    assert comparison.has_paper and not own.has_paper and not compared(BASE).has_paper
    with pytest.raises(ValueError, match=r"`paper_row` 'GRPO' is none of the paper's"):
        compared(BASE, paper_row="GRPO")


def test_models_that_lack_something():
    without = replace(ALIGNED, scores={"pope": ALIGNED.scores["pope"]})
    assert list(row(compared(BASE, without), "ghost_share").figures) == ["base"]
    assert row(compared(without, BASE), "ghost_share").figures["base"].difference is None
    fewer = {name: column[:-1] for name, column in ALIGNED.scores["ghost"].items()}
    comparison = compared(BASE, replace(ALIGNED, scores={**ALIGNED.scores, "ghost": fewer}))
    assert row(comparison, "ghost_share").figures["aligned"].difference is None
    assert row(comparison, "pope_f1").figures["aligned"].difference is not None
    (note,) = comparison.notes
    assert note.startswith("Ghosts: aligned and base were not scored on the same images")


def test_names_must_differ():
    for models in ((), (BASE, BASE)):
        with pytest.raises(ValueError, match="`models` must be at least one, each with a name of its own"):
            compared(*models)


def test_json():
    found = json.loads(json.dumps(as_json(compared(BASE, ALIGNED, paper_row="base 7B", seed=1)), allow_nan=False))
    assert (found["models"], found["compared_with"], found["seed"]) == (["base", "aligned"], "base", 1)
    assert found["paper_row"] == "base 7B" and "2407.02477" in found["paper"]
    pope = found["benchmarks"]["pope"]
    assert pope["metrics"]["pope_f1"]["paper"] == {"value": 86.4, "standard_error": 0.4}
    assert pope["metrics"]["pope_accuracy"]["models"]["aligned"]["verdict"] == "better"
    assert pope["metrics"]["pope_accuracy"]["models"]["base"]["difference"] is None
    assert pope["sign_test"]["aligned"]["gained"] == 25 and pope["sign_test"]["aligned"]["p_value"] < 0.001
    assert list(found["benchmarks"]["ghost"]["metrics"]) == ["ghost_share", "ghost_dogs", "ghost_words"]
