import re
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from support.chromium import evaluate
from support.measured import benchmarks_measured, measured

from trl_mm.eval.result_page import result_page
from trl_mm.eval.results import compare_results


HOSTILE = "\"'></script><img src=x onerror=hacked=1>"


@pytest.fixture
def models(tmp_path):
    """Two models, with photographs that nothing compresses well."""
    rng = np.random.default_rng(0)
    for index in range(40):
        pixels = rng.integers(0, 256, (300, 400, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{index}.png", compress_level=0)
    return [
        in_folder(measured("base", wrong=range(0, 30), ghosts=range(20)), tmp_path),
        in_folder(measured("aligned", wrong=range(25, 35), ghosts=[30]), tmp_path),
    ]


def in_folder(model, folder, word=""):
    rows = {
        name: [{**row, "image": str(folder / row["image"]), "answer": row["answer"] + word} for row in rows]
        for name, rows in model.rows.items()
    }
    return replace(model, rows=rows)


def page_of(models, folder, **settings):
    benchmarks = benchmarks_measured()
    comparison = compare_results(models, benchmarks, paper_row="BDHS attention, 5k")
    return result_page(comparison, models, benchmarks, **settings).write(folder / "report.html")


class Reader(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes = [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes


def test_all_parts_are_there(models, tmp_path):
    html = page_of(models, tmp_path).read_text(encoding="utf-8").replace("\N{NO-BREAK SPACE}", " ")
    for text in (
        "Compared with base: aligned. Seed 0",
        "paper: BDHS attention, 5k",
        "88.75 ± 0.4",
        "33.3 [",
        "ghosts ↓",
        "] better",
        "25 : 5, p = 0.00032",
        "Difference to base: aligned",
        "POPE by category",
        "Answers side by side",
        "aligned against base",
    ):
        assert text in html, text
    assert html.count('<article class="card"') == 40 + 120
    assert html.count("<svg viewBox") >= 3  # both scales of differences, and POPE by category
    assert '<mark class="bad" title="named, and not in the image">ghost</mark>' in html


def test_few_of_many_questions_are_shown_and_it_says_so(models, tmp_path):
    html = page_of(models, tmp_path, max_cards=40).read_text(encoding="utf-8")
    assert html.count('<article class="card"') == 40
    assert "half are those that changed most in score, and half drawn at random (seed 0)" in html
    rows = re.findall(r"<td>(Ghosts|POPE)</td>\s*" + r'<td class="number">(\d+)</td>\s*' * 4, html)
    assert [row[:4] for row in rows] == [("Ghosts", "40", "20", "21"), ("POPE", "120", "20", "30")]
    assert all(int(row[4]) >= 10 for row in rows)
    whole = page_of(models, tmp_path).read_text(encoding="utf-8")
    assert "half drawn" not in whole


def test_the_size_of_the_page_is_bounded(models, tmp_path):
    sizes = [page_of(models, tmp_path, max_cards=count).stat().st_size for count in (20, 60)]
    assert sizes[1] - sizes[0] < 40 * 10_000  # an image takes 8 kB in base64


def test_nothing_from_data_becomes_markup(models, tmp_path):
    pages = []
    for word in ("word", HOSTILE):
        named = [replace(in_folder(model, tmp_path, word), name=f"{word}{i}") for i, model in enumerate(models)]
        pages.append(Reader(page_of(named, tmp_path, max_cards=10).read_text(encoding="utf-8")))
    harmless, hostile = pages
    # Marks move in texts that differ, and plots have fewer ticks beside longer names
    drawn = {"mark", "svg", "g", "path", "use", "text", "tspan", "defs", "clippath", "rect"}
    assert [tag for tag in hostile.tags if tag not in drawn] == [tag for tag in harmless.tags if tag not in drawn]
    assert set(hostile.tags) == set(harmless.tags)
    assert hostile.tags.count("script") == 1 and not any(name.startswith("on") for name, _ in hostile.attributes)


def test_filters_show_what_got_better(models, tmp_path):
    found = evaluate(
        page_of(models, tmp_path),
        """
        const bar = document.querySelector(".filters");
        const labelled = (name) => [...bar.querySelectorAll("label")].find((l) => l.textContent.startsWith(name));
        const shown = (settings) => {
          for (const [name, value] of Object.entries(settings)) {
            const input = labelled(name).querySelector("input, select");
            input.value = value;
            input.dispatchEvent(new Event("input", {bubbles: true}));
          }
          return bar.querySelector("output").textContent;
        };
        return [
          shown({"aligned against base": "got better"}),
          shown({benchmark: "Ghosts"}),
          shown({"aligned against base": "got worse"}),
          shown({benchmark: "POPE", category: "random"}),
          shown({"aligned against base": "", Text: "a dog in"}),
        ];
        """,
    )
    assert found == ["45 of 160", "20 of 160", "1 of 160", "5 of 160", "20 of 160"]


def test_it_is_no_wider_than_a_telephone(models, tmp_path):
    names = [replace(model, name=f"a-model-with-a-rather-long-name-{i}") for i, model in enumerate(models)]
    width = evaluate(page_of(names, tmp_path, max_cards=4), "return document.documentElement.scrollWidth;", width=400)
    assert width <= 400


def test_one_model(models, tmp_path):
    html = page_of(models[:1], tmp_path, max_cards=20).read_text(encoding="utf-8")
    assert "Difference to" not in html and "against base" not in html and "Questions that turned" not in html
    assert "some are drawn at random" in html


def test_without_matplotlib_it_has_no_plots(models, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    html = page_of(models, tmp_path, max_cards=4).read_text(encoding="utf-8")
    assert "pip install trl-mm[eval]" in html and '<article class="card"' in html and "POPE by category" not in html


def test_models_without_rows_have_tables(models, tmp_path):
    html = page_of([replace(model, rows={}) for model in models], tmp_path).read_text(encoding="utf-8")
    assert "Difference to base" in html and "Answers side by side" not in html
