import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.published import published

from trl_mm.eval.intervals import ratio
from trl_mm.eval.llava_bench_scores import UNREADABLE, llava_bench_scores, read_pair, relative_parts, relative_score


@pytest.mark.parametrize(
    ("review", "pair"),
    [
        ("8 6\nBecause.", [8, 6]),
        ("8,6.5", [8, 6.5]),
        ("8 6\r\nBecause.", [8, 6]),
        ("8, 6", UNREADABLE),  # two spaces once the comma is one
        (" 8 6", UNREADABLE),
        ("\n8 6", UNREADABLE),
        ("8/10 6/10", UNREADABLE),
        ("Assistant 1: 8", UNREADABLE),
        ("8 6 7", UNREADABLE),
        ("8", UNREADABLE),
        ("", UNREADABLE),
        ("nan 6", UNREADABLE),
        ("1e999 6", UNREADABLE),
    ],
)
def test_first_line_has_two_numbers(review, pair):
    assert read_pair(review) == pair


def test_means_are_rounded_before_they_are_divided():
    pairs = [[8.0, 5.0], [8.0, 6.0], [7.0, 6.0]]
    assert relative_score(pairs) == {"relative": round(5.667 / 7.667 * 100, 1), "reference": 7.667, "model": 5.667}
    assert relative_score([])["relative"] == relative_score([[0.0, 5.0]])["relative"] == 0.0
    assert relative_score([UNREADABLE] * 3) == {"relative": 100.0, "reference": -1.0, "model": -1.0}


def test_all_is_over_all_reviews_and_unreadable_ones_count():
    categories = ["llava_bench_conv", "llava_bench_conv", "llava_bench_detail", "llava_bench_detail"]
    result = llava_bench_scores(categories, ["a", "b", "b", "c"], [[8.0, 4.0], [8.0, 8.0], UNREADABLE, None])
    assert {name: found["relative"] for name, found in result["scores"].items()} == {
        "all": round(11 / 15 * 100, 1),
        "llava_bench_conv": 75.0,
        "llava_bench_detail": 100.0,
    }
    assert result["unreadable"] == 1
    assert relative_parts(result) == ([4.0, 7.0, 0.0], [8.0, 7.0, 0.0])
    assert relative_parts(result, "conv") == ([4.0, 8.0, 0.0], [8.0, 8.0, 0.0])


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([[8.0, 4.0], [2.0, 10.0], UNREADABLE])), min_size=1))
def test_counts_are_not_negative_and_keep_the_total(rows):
    pairs = [pair for _, pair in rows]
    above, below = relative_parts(llava_bench_scores(["conv"] * len(rows), [image for image, _ in rows], pairs))
    for sums, side in ((above, 1), (below, 0)):
        assert min(sums) >= 0
        assert sum(sums) == pytest.approx(max(0, sum(pair[side] for pair in pairs)))
    if sum(below) > 0:
        assert ratio(above, below) == pytest.approx(sum(above) / sum(below))


def test_published_replies_are_read_as_they_were_recorded():
    replies = published("golden/judge_replies_with_recorded_scores.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in replies]
    other = [row for row in rows if read_pair(row["reply"]) != row["recorded"]]
    assert len(rows) == 220
    # Of four, all about mathematics without an image, the authors set the scores by hand: whole numbers
    assert len(other) == 4
    assert all(read_pair(row["reply"]) == UNREADABLE and row["reply"].startswith("First, ") for row in other)
    assert all(isinstance(number, int) for row in other for number in row["recorded"])
    assert all(isinstance(number, float) for row in rows if row not in other for number in row["recorded"])
