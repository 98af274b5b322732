import re
from dataclasses import replace

import pytest
from support.measured import benchmarks_measured, measured

from trl_mm.eval.result_table import markdown_table, sign_text, terminal_table
from trl_mm.eval.results import compare_results
from trl_mm.eval.sign_test import SignTest


BASE = measured("base", wrong=range(0, 30), ghosts=range(20))
ALIGNED = measured("aligned", wrong=range(25, 35), ghosts=range(4))


def compared(*models, **settings):
    return compare_results(models or (BASE, ALIGNED), benchmarks_measured(), **settings)


def test_the_table_reads():
    lines = terminal_table(compared(paper_row="BDHS attention, 5k")).splitlines()
    assert lines[0].split() == ["base", "aligned", "paper"]
    assert lines[1] == "Ghosts"
    assert lines[2].startswith("  ghosts         33.3 [")
    assert re.fullmatch(r" +-24\.2 \[-\d+\.\d, -\d+\.\d\] better", lines[3])
    assert lines[4].startswith("  dogs           1.00 [1.00, 1.00]") and lines[5].split() == [
        "+0.00",
        "[+0.00,",
        "+0.00]",
    ]
    f1 = next(line for line in lines if line.startswith("  F1"))
    assert f1.endswith("88.75 ± 0.4")
    assert "  right : wrong                     25 : 5, p = 0.00032" in lines
    text = " ".join(lines)
    assert "of 4 differences that are none, 0.2 would by chance" in text and "arXiv 2407.02477" in text


@pytest.mark.parametrize("width", [60, 100])
def test_many_models_are_shown_in_further_tables(width):
    models = [BASE, *(replace(ALIGNED, name=f"runs-of-one-kind-that-is-long-{index}") for index in range(7))]
    text = terminal_table(compared(*models, paper_row="base 7B"), width)
    assert max(map(len, text.splitlines())) <= width
    assert len(re.findall(r"^ {4,}\S.*\n(?=Ghosts|POPE)", text, re.MULTILINE)) >= 3
    for index in range(7):
        assert text.count(f"long-{index}\n") + text.count(f"long-{index}  ") == 1
    assert text.count("25 : 5") == 7


def test_a_further_table_has_only_rows_with_something_in_them():
    text = terminal_table(compared(paper_row="base 7B"), 50)
    assert re.split(r"\n\n", text)[2].split() == ["paper", "POPE", "F1", "86.40", "±", "0.4"]


def test_without_a_figure_of_the_paper_there_is_no_column_for_it():
    comparison = compare_results([BASE], {"ghost": benchmarks_measured()["ghost"]}, paper_row="base 7B")
    text = terminal_table(comparison)
    assert text.splitlines()[0].split() == ["base"] and 'the paper\'s row "base 7B" was measured' in text
    assert markdown_table(comparison).splitlines()[0] == "| benchmark | metric | base |"


def test_one_model_has_no_differences():
    text = terminal_table(compared(BASE))
    assert "better" not in text and "sign test" not in text and "paper" not in text
    assert "[95 % intervals] are over images" in text


def test_github_renders_it():
    text = markdown_table(compared(BASE, replace(ALIGNED, name="a|b<c>_d_"), paper_row="base 7B"))
    lines = text.splitlines()
    assert lines[0] == r"| benchmark | metric | base | a\|b\<c\>\_d\_ | paper |"
    assert lines[1] == "| --- | --- | --- | --- | --- |"
    table = lines[: lines.index("")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {6}
    assert [line.split(" | ")[0].strip("| ") for line in table[2:]] == ["Ghosts", "", "", "POPE", "", "", ""]
    assert r"<br>-24.2 \[-" in table[2] and r"\] better |" in table[2]
    assert table[5].startswith("| POPE | F1 |") and table[5].endswith("| 86.40 ± 0.4 |")


def test_small_p_values():
    assert sign_text(SignTest(0, 0)) == "0 : 0, p = 1"
    assert sign_text(SignTest(400, 0)) == "400 : 0, p < 0.0001"


def test_names_steer_no_terminal():
    text = terminal_table(compared(BASE, replace(ALIGNED, name="a\x1b[31m\nb")))
    assert "\x1b" not in text and "a\\x1b[31m\\nb" in text
