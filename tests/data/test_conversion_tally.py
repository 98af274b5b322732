import pytest

from trl_mm.data.conversion_tally import MOST_REASONS, OTHER, Tally, kind_of, summary_lines


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("/data/a b.jsonl, line 3: no JSON (Extra data: line 1). Write one object per line.", "no JSON"),
        ("/data/meta.json: no JSON (a comma). It is read without.", "no JSON"),
        ("a.jsonl, row 12: `chosen` is empty. Remove the row.", "`chosen` is empty"),
        ("row 12: Image file '/x/1.png' does not exist. Correct the path.", "Image file … does not exist"),
        ("row 1: Image 'a.png' is too large: Image size (5 pixels) exceeds limit of 3.", "Image … is too large"),
        ("/data/a.parquet is no intact parquet file: Magic bytes. Download it.", "… is no intact parquet file"),
        ("a.parquet, row group 3: 1,024 rows cannot be read: page.", "N rows cannot be read"),
        ("a.jsonl, line 2: not text in UTF-8. Convert it.", "not text in UTF-8"),
        (
            "row 3: the converter failed with ValueError('`preference` must be 1 or 2, got 3'). Columns found: id.",
            "the converter failed: `preference` must be N or N, got N (ValueError)",
        ),
        (
            "row 3: the converter failed with KeyError('text'). Columns found: id.",
            "the converter failed: text (KeyError)",
        ),
        ("row 3: \x1b[2J", "\\x1b[NJ"),
    ],
)
def test_kinds_are_without_what_belongs_to_the_row(reason, kind):
    assert kind_of(reason) == kind


def test_kinds_without_end_are_counted_together():
    tally = Tally()
    for number in range(MOST_REASONS + 5):
        tally.add(tally.left_out, f"reason {number}")
    tally.add(tally.left_out, "reason 0")
    assert len(tally.left_out) == MOST_REASONS + 1
    assert tally.left_out[OTHER] == 5 and tally.left_out["reason 0"] == 2


def test_the_lines_say_the_counts():
    tally = Tally(read=1234, images_found=1200, images_missing=4)
    tally.left_out.update(tie=10, video=2)
    tally.filtered["`source` is not coco"] = 3
    tally.pairs_left_out["tie"] = 7
    assert summary_lines(tally.as_dict({"train": 1100, "test": 119})) == [
        "1,234 rows read, 1,219 written (1,100 train, 119 test)",
        "12 left out: 10 tie, 2 video",
        "7 pairs left out of rows that make others: 7 tie",
        "3 not wanted: 3 `source` is not coco",
        "images: 1,200 found, 4 missing",
    ]
    assert summary_lines(Tally(read=1).as_dict({"train": 1}))[0] == "1 rows read, 1 written"


def test_summaries_of_earlier_versions_are_read():
    """A folder that was converted before pairs were counted can still be pushed, with its card."""
    summary = Tally(read=1).as_dict({"train": 1})
    del summary["pairs_left_out"]
    assert summary_lines(summary)[0] == "1 rows read, 1 written"
