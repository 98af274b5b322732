import re
import sys
from xml.etree import ElementTree

import matplotlib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trl_mm.report.plots import interval_plot, line_plot, scatter_plot


CLIPS = {"clipPath", "rect"}  # what keeps a line inside the axes


def test_lines_have_classes_and_no_color_of_their_own():
    svg = line_plot("Loss", [[(0, 1), (1, 2)]] * 8, "step", "nats")
    for index in range(6):
        assert svg.count(f'class="line-{index}"') == (2 if index < 2 else 1)
    assert "#000000" not in svg
    assert 'stroke="currentColor"' in svg
    assert "style" not in svg
    assert "metadata" not in svg
    assert svg.startswith('<svg viewBox="0 0 460.8 230.4" role="img" aria-label="Loss">')


def test_few_points_are_dots_many_are_not():
    assert line_plot("t", [[(x, x) for x in range(50)]], "", "").count("<use") == 50
    assert line_plot("t", [[(x, x) for x in range(51)]], "", "").count("<use") == 0


def test_gaps_and_empty_lines():
    nan, inf = float("nan"), float("inf")
    svg = line_plot("t", [[(0, 1), (1, nan), (2, inf), (3, 1)], [], [(1, 1)]], "", "")
    assert svg.count("<use") == 3
    assert line_plot("t", [], "", "").startswith("<svg")


@settings(max_examples=10)
@given(st.text(alphabet=st.one_of(st.sampled_from('<>&"$\\_^{}\x00\ud83d日'), st.characters())))
def test_any_label_is_nothing_but_text(label):
    svg = ElementTree.fromstring(line_plot(label, [[(0, 1)]], label, label))
    assert {element.tag for element in svg.iter()} <= {"svg", "g", "defs", "path", "use", "text", "tspan"} | CLIPS
    assert not any(name.startswith("on") for element in svg.iter() for name in element.attrib)
    assert len(svg.attrib["aria-label"]) == len(label)


def test_settings_of_the_user_stay(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # importing it would fail: it keeps every figure
    before = matplotlib.rcParams.copy()
    line_plot("t", [[(0, 1)]], "x", "y")
    assert matplotlib.rcParams == before


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install trl-mm\[eval\]"):
        line_plot("t", [], "", "")


def test_intervals_stand_in_order_and_are_escaped():
    rows = [("base & <b>", 0.13, (0.1, 0.15)), ("aligned", 0.07, (0.05, 0.08))]
    svg = interval_plot("CHAIR", rows, "share")
    assert svg.count('class="line-0"') == 4 and svg.count("<use") == 2
    assert svg.index("base &amp; &lt;b&gt;") < svg.index("aligned")
    ElementTree.fromstring(svg)


def test_points_have_markers_of_their_own_and_both_intervals():
    point = ((10.0, (9.0, 12.0)), (60.0, (55.0, 61.0)))
    svg = scatter_plot("CHAIR against recall", [point] * 7, "x & y", "<y>")
    assert svg.count('class="line-0"') == 6 and svg.count('class="line-5"') == 3
    assert svg.count("<use") == 7
    assert "x &amp; y" in svg and "&lt;y&gt;" in svg and "style" not in svg
    markers = re.findall(r'<defs><path id="[^"]*" d="([^"]*)"', re.sub(r"\s+", " ", svg).replace("> <", "><"))
    assert len(set(markers)) == 6
    assert scatter_plot("t", [], "", "").startswith("<svg")


@pytest.mark.parametrize("value", [0.0, 40.0])
def test_shares_of_zero_have_no_axis_below_zero(value):
    zero = (0.0, (0.0, value))
    for svg in (scatter_plot("t", [(zero, zero)], "", ""), interval_plot("t", [("a", *zero)], "")):
        assert "\N{MINUS SIGN}" not in svg and "0" in svg


def test_a_reference_is_one_more_line():
    rows = [("a", 1.0, (0.5, 2.0))]
    without, with_zero = (interval_plot("t", rows, "", reference) for reference in (None, 0.0))
    assert (without.count('class="reference"'), with_zero.count('class="reference"')) == (0, 1)
