import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.published_rows import IMAGE, OTHER_ROWS, ROWS, rated

from trl_mm.data.converters.left_out import LeftOut
from trl_mm.data.converters.rankings import bpo, mm_rlhf, nlf, vlfeedback, vlfeedback_best_worst


def writers(rows):
    return [(row["chosen_model"], row["rejected_model"]) for row in rows]


def test_vlfeedback():
    rows = vlfeedback(ROWS["vlfeedback"])
    assert writers(rows) == [("a", "b"), ("a", "d")]  # c has a rating that is no number, b and d are equal
    assert [row["chosen"][0]["content"] for row in rows] == ["A dog."] * 2
    assert [(row["chosen_rating"], row["rejected_rating"]) for row in rows] == [(5.0, 3.0)] * 2
    assert [row["row_id"] for row in rows] == ["wit-1-0", "wit-1-1"] and rows[0]["images"] == [IMAGE]
    assert writers(vlfeedback_best_worst(ROWS["vlfeedback"])) == [("a", "b")]


def test_vlfeedback_as_columns():
    (row,) = vlfeedback(OTHER_ROWS["vlfeedback"][0])
    assert row["images"] == ["merged_images/1.jpg"]
    assert (row["chosen_rating"], row["rejected_rating"], row["rejected"][0]["content"]) == (4.5, 3.0, "Two dogs.")


@pytest.mark.parametrize(
    ("completions", "reason"),
    [
        ([rated("a", "A.", "3", "3", "3"), rated("b", "B.", "5", "3", "1")], "tie"),
        ([rated("a", "A.", "N/A", "3", "3"), rated("b", "B.", "5", "3", None)], "ratings that are no numbers"),
        ([rated("a", "A.", "4", "3", "3")], "fewer than two answers"),
        ([rated("a", "A.", "4", "3", "3"), rated("b", "A.", "3", "3", "3")], "both answers are the same"),
        ([rated("a", "", "4", "3", "3"), rated("b", "A.", "3", "3", "3")], "empty chosen"),
    ],
)
def test_why_a_row_of_vlfeedback_has_no_pair(completions, reason):
    for converter in (vlfeedback, vlfeedback_best_worst):
        with pytest.raises(LeftOut, match=reason):
            converter({**ROWS["vlfeedback"], "completions": completions})


@given(st.lists(st.tuples(*[st.sampled_from(["1", "2", "5", "N/A"])] * 3), min_size=2, max_size=5))
def test_all_pairs_of_vlfeedback_by_hand(ratings):
    completions = [rated(str(n), f"Answer {n}.", *three) for n, three in enumerate(ratings)]
    means = {n: sum(map(int, three)) for n, three in enumerate(ratings) if "N/A" not in three}
    wanted = {(str(a), str(b)) for a, b in itertools.permutations(means, 2) if means[a] > means[b]}
    try:
        found = writers(vlfeedback({**ROWS["vlfeedback"], "completions": completions}))
    except LeftOut:
        found = []
    assert sorted(found) == sorted(wanted)


def test_bpo():
    rows = bpo(ROWS["bpo"])
    assert writers(rows) == [("gt", "mllm-hal"), ("gt-rephrased", "mllm-hal")]
    assert rows[0]["prompt"] == [{"role": "user", "content": "What is it?"}]
    assert rows[0]["images"] == ["coco/train2017/1.jpg"]
    with pytest.raises(LeftOut, match="short or repeated answers"):
        bpo({**ROWS["bpo"], "completions": ROWS["bpo"]["completions"][2:]})


@pytest.mark.parametrize(
    "ranking",
    [
        {"a": 1, "b": 2, "c": 2},
        {"a": "1", "b": "2", "c": "2", "d": None},
        ["a", ["b", "c"]],
        "a > b = c",
        '{"a": 1, "b": 2, "c": 2}',
    ],
)
def test_mm_rlhf(ranking):
    rows = mm_rlhf({**ROWS["mm_rlhf"], "final_ranking": ranking})
    assert writers(rows) == [("a", "b"), ("a", "c")]
    assert [(row["chosen_rating"], row["rejected_rating"]) for row in rows] == [(4.0, 3.0), (4.0, None)]
    assert rows[0]["source"] == "long" and rows[0]["is_safety"] is False
    assert rows[0]["prompt"] == [{"role": "user", "content": "What is it?"}]


def test_outputs_of_mm_rlhf_by_place():
    row = OTHER_ROWS["mm_rlhf"][0]
    rows = mm_rlhf(row)
    said = [(made["chosen"][0]["content"], made["rejected"][0]["content"]) for made in rows]
    assert said == [("A dog.", "Two dogs."), ("A dog.", "A cat.")]
    assert writers(rows) == [(None, None)] * 2
    assert [(made["chosen_rating"], made["rejected_rating"]) for made in rows] == [(4.0, 3.0), (4.0, None)]
    assert rows.left_out == ("tie",)
    with pytest.raises(LeftOut, match="ratings that are no numbers"):
        mm_rlhf({**row, "final_ranking": ["N/A", None, 1]})


def test_ties_and_ratings_that_are_no_numbers_are_named_beside_the_pairs():
    rows = vlfeedback(ROWS["vlfeedback"])
    assert len(rows) == 2 and sorted(rows.left_out) == ["ratings that are no numbers"] * 3 + ["tie"]
    assert vlfeedback(ROWS["vlfeedback"], only_extremes=True).left_out == ()


def test_videos_and_ties_of_mm_rlhf():
    with pytest.raises(LeftOut, match="video"):
        mm_rlhf({**ROWS["mm_rlhf"], "image": None, "video": "long/1.mp4"})
    with pytest.raises(LeftOut, match="tie"):
        mm_rlhf({**ROWS["mm_rlhf"], "final_ranking": {"a": 1, "b": 1, "c": 1}})


@pytest.mark.parametrize("caption", ["A dog.", ["A dog."], None])
def test_nlf(caption):
    row = nlf({**ROWS["nlf"], "caption": caption})
    assert row["prompt"] == [{"role": "user", "content": "What is it?"}]
    assert (row["chosen"][0]["content"], row["rejected"][0]["content"]) == ("A dog.", "Two dogs.")
    assert (row["chosen_rating"], row["rejected_rating"], row["critique"]) == (4.0, 2.0, "There is one.")
    with pytest.raises(LeftOut, match="fewer than two answers"):
        nlf({**ROWS["nlf"], "interaction": ROWS["nlf"]["interaction"][:1]})
