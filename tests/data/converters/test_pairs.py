import pytest

from trl_mm.data.converters.left_out import LeftOut
from trl_mm.data.converters.pairs import pair, rated_pairs, rows_of, sft_row, shared_prompt, split_answer
from trl_mm.data.rows import check_row, normalize_row


def said(*texts):
    return [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]


def test_a_pair_is_a_row_of_the_format():
    row = pair(
        ["a.jpg"], "<image>What?", "A dog.", {"from": "gpt", "value": "Two <image> dogs."}, row_id=3, source="x"
    )
    check_row(normalize_row(row, ""), "")
    assert row == {
        "images": ["a.jpg"],
        "prompt": said("What?"),
        "chosen": [{"role": "assistant", "content": "A dog."}],
        "rejected": [{"role": "assistant", "content": "Two dogs."}],
        "row_id": "3",
        "source": "x",
    }
    assert "row_id" not in sft_row([], "What?", "A dog.")


@pytest.mark.parametrize(
    ("chosen", "rejected", "reason"),
    [
        ("", "a", "empty chosen"),
        (" \n", "a", "empty chosen"),
        ("a", None, "empty rejected"),
        ("a", "<image>", "empty rejected"),
        ("a", " a\n", "both answers are the same"),
    ],
)
def test_what_is_no_pair_is_left_out(chosen, rejected, reason):
    with pytest.raises(LeftOut, match=f"^{reason}$"):
        pair([], "What?", chosen, rejected)


def answers(*ratings):
    return [{"text": str(n), "rating": rating} for n, rating in enumerate(ratings)]


def places(pairs):
    return [(better["text"], worse["text"]) for better, worse in pairs]


def test_all_pairs_and_best_against_worst():
    rated = answers(2.0, 5.0, None, 2.0, 5.0)
    assert places(rated_pairs(rated)[0]) == [("1", "0"), ("4", "0"), ("1", "3"), ("4", "3")]
    assert places(rated_pairs(rated, only_extremes=True)[0]) == [("1", "0")]


@pytest.mark.parametrize(
    ("rated", "reason"),
    [
        (answers(2.0, 2.0), "tie"),
        (answers(2.0, None), "ratings that are no numbers"),
        (answers(2.0), "fewer than two answers"),
        ([], "fewer than two answers"),
    ],
)
def test_why_there_is_no_pair(rated, reason):
    for only_extremes in (False, True):
        with pytest.raises(LeftOut, match=reason):
            rated_pairs(rated, only_extremes)


def test_rows_of_drops_what_is_no_pair_as_long_as_one_is():
    rows = rows_of([([], "Who?", "", "a", {}), ([], "Who?", "b", "a", {"source": "x"})], row_id="r")
    assert [(row["row_id"], row["source"]) for row in rows] == [("r-1", "x")]
    with pytest.raises(LeftOut, match="empty chosen"):
        rows_of([([], "Who?", "", "a", {}), ([], "Who?", "b", "b", {})])


def test_conversations_share_their_prompt():
    assert shared_prompt(said("<image>\nWho?", "Me."), said("Who?", "You.")) == (said("<image>\nWho?"), "Me.", "You.")
    for other in (said("Why?", "You."), said("Who?", "I.", "Who?", "You."), [{"role": "system", "content": "x"}]):
        with pytest.raises(ValueError, match="differ before|does not end with"):
            shared_prompt(said("Who?", "Me."), other)
    for other in ([], said("Who?")):
        with pytest.raises(ValueError, match="does not end with a turn of the assistant"):
            split_answer(other)
