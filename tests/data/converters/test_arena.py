import pytest
from support.published_rows import ROWS, messages

from trl_mm.data.converters.arena import vision_arena
from trl_mm.data.converters.left_out import LeftOut


ROW = ROWS["vision_arena"]


def answers(row):
    return row["chosen"][0]["content"], row["rejected"][0]["content"]


@pytest.mark.parametrize("nested", [True, False])
def test_the_winner_is_chosen(nested):
    row = dict(ROW)
    if not nested:
        row |= {name: [message for (message,) in row[name]] for name in ("conversation_a", "conversation_b")}
    made = vision_arena(row)
    assert answers(made) == ("A dog.", "Two dogs.")
    assert (made["chosen_model"], made["rejected_model"], made["row_id"]) == ("b", "a", "ab12")
    assert answers(vision_arena({**row, "winner": "model_a"})) == ("Two dogs.", "A dog.")


@pytest.mark.parametrize("winner", ["tie", "tie (bothbad)", "both_bad", "bothbad"])
def test_ties_are_left_out(winner):
    with pytest.raises(LeftOut, match="tie"):
        vision_arena({**ROW, "winner": winner})


def test_other_winners_are_named():
    with pytest.raises(ValueError, match="`winner` must be model_a, model_b or a tie, got 'both'"):
        vision_arena({**ROW, "winner": "both"})


def test_conversations_that_part_early_are_left_out():
    first, second = messages("Who?", "Me.", "Sure?", "Yes."), messages("Who?", "You.", "Sure?", "No.")
    with pytest.raises(LeftOut, match="differ before their last answers"):
        vision_arena({**ROW, "conversation_a": first, "conversation_b": second})
    second[1] = first[1]
    assert answers(vision_arena({**ROW, "conversation_a": first, "conversation_b": second})) == ("No.", "Yes.")
