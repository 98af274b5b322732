import re
from dataclasses import replace

import pytest
from support.measured import benchmarks_measured, measured

from trl_mm.eval import result_plots
from trl_mm.eval.benchmarks import BENCHMARKS
from trl_mm.eval.result_plots import HALLUCINATION, add_plots
from trl_mm.eval.results import compare_results
from trl_mm.report.page import Page


BASE = measured("base", wrong=range(0, 30), ghosts=range(20))
ALIGNED = measured("aligned", wrong=range(25, 35), ghosts=[30])


def plotted(folder, *models):
    page = Page("plots")
    add_plots(page, compare_results(models, benchmarks_measured()), models)
    return page.write(folder / "page.html").read_text(encoding="utf-8")


def titles(html):
    return re.findall(r"<figcaption><strong>(.*?)</strong>", html)


def test_differences_of_each_scale_and_categories(tmp_path):
    html = plotted(tmp_path, BASE, ALIGNED, replace(ALIGNED, name="other"))
    assert titles(html) == ["Difference to base", "Difference to base", "POPE by category"]
    for text in ("Ghosts ghosts, aligned", "POPE F1, other", "points of percent", "popular, other", "F1, %"):
        assert text in html, text
    assert html.count('class="reference"') == 2
    assert "base," not in html  # the first one has no difference to itself


def test_hallucination_stands_beside_recall_and_length(tmp_path, monkeypatch):
    monkeypatch.setattr(
        result_plots, "HALLUCINATION", {"ghost": ("ghost_share", "ghost_dogs", None), "gone": ("a", "b", None)}
    )
    html = plotted(tmp_path, BASE, ALIGNED)
    assert titles(html)[2:4] == [
        "Ghosts: hallucination against recall (right and low is better)",
        "Ghosts: hallucination against length (long answers name more)",
    ]
    assert "ghosts, %" in html and "words of an answer" in html
    monkeypatch.setattr(result_plots, "HALLUCINATION", {"ghost": ("ghost_share", None, None)})
    assert len(titles(plotted(tmp_path, replace(BASE, rows={}), replace(ALIGNED, rows={})))) == 3  # no lengths


def test_lengths_are_those_of_texts(monkeypatch):
    monkeypatch.setattr(result_plots, "HALLUCINATION", {"ghost": ("ghost_share", None, "text")})
    drawn = {}
    monkeypatch.setattr(Page, "scatter", lambda self, title, points, x_label, y_label: drawn.update(points))
    rows = [{**row, "truth": {"type": "text" if i < 20 else "yes or no"}} for i, row in enumerate(BASE.rows["ghost"])]
    model = replace(BASE, rows={"ghost": rows})
    add_plots(Page("plots"), compare_results([model], benchmarks_measured()), [model])
    assert drawn["base"][0] == (7.0, (7.0, 7.0))


def test_one_model_has_no_differences(tmp_path):
    assert titles(plotted(tmp_path, BASE)) == ["POPE by category"]


@pytest.mark.parametrize("name", HALLUCINATION)
def test_they_are_metrics_of_the_benchmark(name):
    assert set(filter(None, HALLUCINATION[name][:2])) <= set(BENCHMARKS[name].metrics)


def test_what_is_drawn_is_on_the_scale_of_the_table(monkeypatch):
    monkeypatch.setattr(result_plots, "HALLUCINATION", {"ghost": ("ghost_share", "ghost_dogs", None)})
    drawn = {}
    monkeypatch.setattr(Page, "intervals", lambda self, title, rows, label, **_: drawn.update({label: rows}))
    monkeypatch.setattr(Page, "scatter", lambda self, title, points, x_label, y_label: drawn.update({x_label: points}))
    comparison = compare_results([BASE, ALIGNED], benchmarks_measured())
    add_plots(Page("plots"), comparison, [BASE, ALIGNED])
    share, dogs = (next(row for row in comparison.rows if row.key == key) for key in ("ghost_share", "ghost_dogs"))
    aligned = share.figures["aligned"]
    ends = tuple(100 * end for end in aligned.difference_interval)
    assert drawn["points of percent"][0] == ("Ghosts ghosts", 100 * aligned.difference, ends)
    x, y = drawn["dogs"]["aligned"]
    assert x == (dogs.figures["aligned"].value, dogs.figures["aligned"].interval)
    assert y == (100 * aligned.value, tuple(100 * end for end in aligned.interval))
    assert drawn["words of an answer"]["base"][0] == (5.5, (5.5, 5.5))  # 20 answers of 7 words and 20 of 4
    category = BASE.scores["pope"]["popular"]
    low, high = category["intervals"]["f1"]
    assert ("popular, base", 100 * category["f1"], (100 * low, 100 * high)) in drawn["F1, %"]
