import pytest

from trl_mm.eval.benchmarks import BENCHMARKS
from trl_mm.eval.paper_rows import PAPER_COLUMNS, PAPER_ROWS, find_paper_row


def test_rows_are_found_as_users_write_them():
    name, values = find_paper_row("BDHS attention, 5k")
    assert name == "BDHS attention, 5k"
    assert (values["POPE"], values["Recall_coco"], values["MMHal-V"]) == (88.75, 75.58, 2.71)
    for spelled in ("bdhs attention 5k", "BDHS-Attention (5k)"):
        assert find_paper_row(spelled)[0] == name
    assert find_paper_row("+ POVID's distortion")[0] == "DPO, POVID 5k + POVID's distortion"
    assert find_paper_row("base")[0] == "base 7B"
    for known in PAPER_ROWS:
        assert find_paper_row(known)[0] == known


@pytest.mark.parametrize(
    ("name", "problem", "listed"),
    [("BDHS attention, 17k", "is none of", 15), ("", "is none of", 15), ("BDHS", "is a part of 4 rows", 4)],
)
def test_other_names_are_refused_with_what_is_known(name, problem, listed):
    with pytest.raises(ValueError) as refused:
        find_paper_row(name)
    assert problem in str(refused.value) and str(refused.value).count('"') == 2 * listed


def test_standard_errors():
    _, values = find_paper_row("BDHS attention, 5k")
    errors = {name: column.standard_error(values[name]) for name, column in PAPER_COLUMNS.items()}
    assert errors.pop("POPE") == 0.4
    assert [name for name, error in errors.items() if error is None] == ["MMHal", "MMHal-V", "LLaVA-W"]
    known = {name: round(error, 2) for name, error in errors.items() if error is not None}
    assert known == {"TextVQA": 0.67, "GQA": 0.43, "MM-Vet": 3.36, "Recall_coco": 1.39}


def test_recall_is_a_share_of_954_objects():
    """The published recalls are fractions of 954, so the size that the standard error stands on is right."""
    column = list(PAPER_COLUMNS).index("Recall_coco")
    recalls = [row[column] for row in PAPER_ROWS.values()]
    fractions = {round(100 * count / 954, 2) for count in range(955)}
    assert sum(recall in fractions for recall in recalls) >= len(recalls) - 1


@pytest.mark.parametrize("name", PAPER_COLUMNS)
def test_columns_are_metrics_of_ours(name):
    column = PAPER_COLUMNS[name]
    kind = BENCHMARKS[column.benchmark]
    assert column.metric is None or column.metric in kind.metrics
    assert column.needs is None or hasattr(kind(), column.needs)
