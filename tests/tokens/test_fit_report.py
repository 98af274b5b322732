import numpy as np
import pytest
from datasets import Dataset

from trl_mm.tokens.fit_report import FitReport, keep_fitting
from trl_mm.tokens.lengths import TokenCounts


COUNTS = TokenCounts(
    prompt=np.array([60, 100, 130, 99, 80]),
    chosen=np.array([40, 10, 5, 30, 5]),
    rejected=np.array([45, 20, 5, 10, 30]),
    image=np.array([50, 90, 120, 0, 70]),
)
ROWS = Dataset.from_dict({"row_id": ["0", "1", "2", "3", "4"]})


def test_a_report_says_what_becomes_of_rows_that_do_not_fit():
    report = FitReport(COUNTS, 100, "eval")
    assert (report.num_too_long, report.num_dropped, report.fitting_max_length) == (5, 2, 135)
    assert report.cuts.tolist() == [[1, 29], [40, 5], [1, 9], [20, 10]]
    assert report.num_short == 2
    text = str(report)
    assert "5 rows of the eval dataset" in text
    table = [line.split() for line in text.splitlines()]
    assert ["prompt", "60", "99", "130", "130"] in table
    assert ["images", "0", "70", "120", "120"] in table
    assert ["prompt", "and", "longer", "answer", "105", "120", "135", "135"] in table
    assert "5 rows exceed `max_length` (100); 135 fits all." in text
    assert "no token for an answer: 2 rows" in text
    assert "cut: 4 answers, by at most 29 tokens; 2 keep fewer than 16" in text


def test_a_row_that_just_fits_is_not_too_long():
    assert "All fit `max_length` (135)." in str(FitReport(COUNTS, 135))
    report = FitReport(COUNTS, 134)
    assert (report.num_too_long, report.num_dropped, report.cuts.tolist()) == (1, 0, [[4, 1], [4, 1]])


def test_without_a_limit_every_row_is_kept():
    report = FitReport(COUNTS)
    assert (report.num_too_long, report.num_dropped, len(report.cuts), len(report.kept)) == (0, 0, 0, 5)
    assert "every row is kept whole" in str(report)
    assert keep_fitting(ROWS, report, "error") is ROWS


def test_rows_without_rejected_have_no_line_for_it():
    text = str(
        FitReport(TokenCounts(COUNTS.prompt, COUNTS.chosen, 0 * COUNTS.chosen, COUNTS.image), 200, batch_size=2)
    )
    assert "chosen" in text and "rejected" not in text and "Padding" not in text


def test_expected_padding_falls_with_groups_of_similar_length():
    prompt = np.where(np.arange(400) % 2, 1000, 20)
    answers = np.full(400, 10)
    report = FitReport(TokenCounts(prompt, answers, answers, prompt - 10), batch_size=4)
    shuffled, grouped = report.padding
    assert 0.3 < shuffled < 0.5 and grouped < 0.05
    assert report.padding == (shuffled, grouped)
    assert f"Padding in batches of 4: {shuffled:.1%} in random order, {grouped:.1%} with" in str(report)


def test_rows_that_do_not_fit_are_dropped_and_counted(caplog):
    kept = keep_fitting(ROWS, FitReport(COUNTS, 100, "eval"))
    assert kept["row_id"][:] == ["0", "3", "4"]
    assert "2 of 5 rows of the eval dataset have a prompt of `max_length` (100) tokens or more" in caplog.text
    assert "the longest 130 (row 2)" in caplog.text and "Raise `max_length`" in caplog.text
    assert "2 answers of the eval dataset are cut to fewer than 16 tokens" in caplog.text


def test_what_fits_is_silent(caplog):
    assert keep_fitting(ROWS, FitReport(COUNTS, 135)) is ROWS
    assert not caplog.records


def test_rows_that_do_not_fit_can_be_refused():
    with pytest.raises(ValueError, match="1 of 5 rows of the train dataset.*Image tokens are never cut.*overlong"):
        keep_fitting(ROWS, FitReport(COUNTS, 130), overlong="error")
    assert keep_fitting(ROWS, FitReport(COUNTS, 131), overlong="error") is ROWS


def test_a_dataset_of_which_nothing_is_left_is_refused():
    with pytest.raises(ValueError, match="5 of 5 rows.*raise `max_length`"):
        keep_fitting(ROWS, FitReport(COUNTS, 5))


def test_parts_of_a_mixture_have_a_line_each():
    counts = TokenCounts(*(np.array(values) for values in ([5, 50, 8], [4, 4, 9], [3, 3, 3], [0, 0, 0])))
    report = FitReport(counts, max_length=15, parts=["a", "b", "a"])
    assert {name: (len(part.counts), part.num_dropped) for name, part in report.by_part.items()} == {
        "a": (2, 0),
        "b": (1, 1),
    }
    lines = [line.split() for line in str(report).splitlines()[-2:]]
    assert lines == [["a", "2", "17", "17", "0", "1"], ["b", "1", "54", "54", "1", "0"]]
    assert FitReport(counts).by_part == {}
