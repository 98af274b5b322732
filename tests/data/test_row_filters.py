import pytest

from trl_mm.data.row_filters import RowFilter, parse_where


def test_columns_have_one_of_their_values():
    wanted = RowFilter(parse_where(["source=coco", "source=vqav2", "turns=1", "note=a=b"]))
    row = {"source": "vqav2", "turns": 1, "note": "a=b"}
    assert wanted.reason(row) is None
    assert wanted.reason({**row, "source": "vg"}) == "`source` is not coco or vqav2"
    assert wanted.reason({**row, "turns": 2}) == "`turns` is not 1"
    assert wanted.reason({"source": "coco", "turns": None}) == "no `turns`"
    assert RowFilter().reason({}) is None


@pytest.mark.parametrize(
    ("chosen", "rejected", "reason"),
    [
        (5, 4, None),
        ("4.5", "2", None),
        (4, 3.5, "ratings differ by less than 1"),
        (3, 5, "ratings differ by less than 1"),
        (None, 5, "no `chosen_rating` and `rejected_rating`"),
        ("N/A", 5, "no `chosen_rating` and `rejected_rating`"),
        (float("nan"), 5, "ratings differ by less than 1"),
        (True, 0, "no `chosen_rating` and `rejected_rating`"),
    ],
)
def test_ratings_differ_enough(chosen, rejected, reason):
    assert RowFilter(min_rating_gap=1.0).reason({"chosen_rating": chosen, "rejected_rating": rejected}) == reason


@pytest.mark.parametrize("condition", ["source", "=coco", ""])
def test_another_form_is_refused(condition):
    with pytest.raises(ValueError, match="`where` .* must be column=value, such as source=coco"):
        parse_where([condition])


def test_rows_about_safety_can_be_left_out():
    assert RowFilter(skip_safety=True).reason({"is_safety": True}) == "safety"
    assert RowFilter(skip_safety=True).reason({"is_safety": False}) is RowFilter(skip_safety=True).reason({}) is None
    assert RowFilter().reason({"is_safety": True}) is None
