"""What docs/evaluation.md says of benchmarks, settings and figures is what there is."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from trl_mm.eval.benchmarks import BENCHMARKS
from trl_mm.eval.paper_rows import PAPER_COLUMNS, PAPER_ROWS, find_paper_row
from trl_mm.eval.result_page import MAX_CARDS


DOCS = Path(__file__).parents[2] / "docs" / "evaluation.md"
pytestmark = pytest.mark.skipif(not DOCS.is_file(), reason="the docs are not part of the sdist")


def text():
    return DOCS.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_has_a_paragraph_and_its_settings_are_real(name):
    assert re.search(rf"^\*\*.*\(`{name}`", text(), re.MULTILINE) or f"**MMHal-Bench-V** (`{name}`)" in text()
    settings = {field.name for field in fields(BENCHMARKS[name])}
    other = "mmhal_v" if name == "mmhal" else "-"  # a name that begins with another one's
    named = {word for word in re.findall(rf"`({name}_\w+)`", text()) if not word.startswith(other)}
    assert named <= settings | set(BENCHMARKS[name].metrics)


def test_every_judged_benchmark_has_its_price():
    table = text()[text().index("## What a judge costs") :]
    for name, kind in BENCHMARKS.items():
        assert (f"\n| `{name}` |" in table) == (kind.judge_options is not None), name


def test_the_standard_errors_are_those_of_the_paper_rows():
    named = re.search(r"[\d.]+ points for POPE, .*? for Recall_coco", " ".join(text().split()))
    assert named
    values = find_paper_row("BDHS attention, 5k")[1]
    errors = [PAPER_COLUMNS[name].standard_error(values[name]) for name in ("POPE", "TextVQA", "GQA", "MM-Vet")]
    errors.append(PAPER_COLUMNS["Recall_coco"].standard_error(values["Recall_coco"]))
    assert [f"{error:.1f}" for error in errors] == re.findall(r"\d\.\d", named[0])
    assert re.search(r'--paper_row "(.*?)"', text())[1] in PAPER_ROWS


def test_how_many_questions_the_page_shows():
    assert f"At most {MAX_CARDS:,} questions" in text()
