import pytest
from hypothesis import given
from hypothesis import strategies as st

from trl_mm.eval.mmhal_scores import TYPES, mmhal_parts, mmhal_scores, read_rating, types_by_order


@pytest.mark.parametrize(
    ("reply", "rating"),
    [
        ("Good.\nRating: 4, somewhat informative", 4),
        ("RATING: 0", 0),
        ("Rating: 3.5", 3),
        ("Rating: 12", 1),
        ("Rating: 4. So I say rating: 4!", 4),
        ("Rating: 4 or Rating: 5", None),
        ("**Rating**: 4", None),
        ("Rating:4", None),
        ("Rating: 7", None),
        ("", None),
    ],
)
def test_exactly_one_rating_is_read(reply, rating):
    assert read_rating(reply) == rating


def test_unreadable_is_zero_and_not_judged_is_left_out():
    types = ["attribute", "counting", "attribute", "counting"]
    result = mmhal_scores(types, list("abca"), ["Rating: 6", "no idea", "rating: 3", None])
    assert result["ratings"] == [6, 0, 3, None]
    assert result["by_type"] == {"attribute": 4.5, "counting": 0}
    assert result["unreadable"] == 1
    assert mmhal_parts(result) == {
        "score": ([6, 0, 3], [1, 1, 1]),
        "hallucination_rate": ([0, 1, 0], [1, 1, 1]),
        "informativeness": ([1, 0, 0], [1, 1, 1]),
    }
    assert mmhal_scores(["other"], ["a"], [None])["by_type"] == {"other": None}


@given(st.lists(st.integers(0, 6), min_size=96, max_size=96))
def test_means_by_type_rest_on_the_order(ratings):
    replies = [f"Rating: {rating}" for rating in ratings]
    result = mmhal_scores(types_by_order(96), list(map(str, range(96))), replies)
    assert list(result["by_type"].values()) == [sum(ratings[start::8]) / 12 for start in range(8)]
    assert list(result["by_type"]) == list(TYPES)
    score, asked = mmhal_parts(result)["score"]
    assert sum(score) / sum(asked) == sum(ratings) / 96


def test_other_numbers_of_rows_have_no_order():
    assert types_by_order(8) == [None] * 8
