import json

import pytest
from support.published import published
from support.published_rows import OTHER_ROWS, ROWS, messages

from trl_mm.data.converters.left_out import LeftOut
from trl_mm.data.converters.ms_swift import ms_swift
from trl_mm.data.rows import check_row, normalize_row


def texts(row):
    return [message["content"] for name in ("prompt", "chosen", "rejected") for message in row.get(name, [])]


DOGS = ["What is it?", "A dog.", "Two dogs."]


def test_messages_with_a_rejected_answer():
    row = ms_swift({**ROWS["ms_swift"], "channel": "a", "system": "Be brief."})
    assert texts(row) == ["Be brief.", *DOGS] and row["images"] == ["1.jpg"] and row["channel"] == "a"


def test_a_system_message_is_not_said_twice():
    spoken = [{"role": "system", "content": "Be long."}, *messages("What is it?", "A dog.")]
    assert texts(ms_swift({**ROWS["ms_swift"], "messages": spoken, "system": "Be brief."}))[0] == "Be long."


def test_rejected_messages():
    row = OTHER_ROWS["ms_swift"][1]
    assert texts(ms_swift(row)) == DOGS and ms_swift(row)["images"] == ["1.jpg"]
    with pytest.raises(LeftOut, match="other images"):
        ms_swift({**row, "rejected_images": ["2.jpg"]})


def test_several_rejected_answers_make_several_pairs():
    rows = ms_swift({**ROWS["ms_swift"], "id": 7, "rejected_response": ["Two dogs.", "A dog.", "A cat."]})
    assert [texts(row)[-1] for row in rows] == ["Two dogs.", "A cat."]
    assert [row["row_id"] for row in rows] == ["7-0", "7-2"] and rows.left_out == ("both answers are the same",)


def test_of_unpaired_answers_the_good_ones_are_sft_rows():
    row = {"messages": messages("What is it?", "A dog."), "label": True}
    assert "rejected" not in ms_swift(row)
    with pytest.raises(LeftOut, match="labelled bad"):
        ms_swift({**row, "label": False})


def test_queries_name_their_images():
    row = ms_swift(OTHER_ROWS["ms_swift"][0])
    assert texts(row) == ["What is it?", "A dog.", "No."] and row["images"] == ["1.jpg"]
    row = ms_swift({"query": "<img>1.jpg</img><img>2.jpg</img>Which?", "response": "A.", "history": [["Who?", "Me."]]})
    assert row["images"] == ["1.jpg", "2.jpg"] and "rejected" not in row
    assert [part["type"] for part in row["prompt"][2]["content"]] == ["image", "image", "text"]


def test_a_text_of_tags_takes_no_time():
    row = ms_swift({"query": "<img>" * 100_000, "response": "A."})
    assert row["images"] == []


def test_human_and_assistant():
    assert texts(ms_swift(OTHER_ROWS["ms_swift"][2])) == ["Be brief.", "Who?", "Me."]


@pytest.mark.parametrize("name", ["multi_modal_1", "multi_modal_2", "multi_modal_3", "sharegpt", "chatml"])
def test_published_rows(name):
    rows = [json.loads(line) for line in published(f"ms_swift/{name}.jsonl").read_text().splitlines()]
    assert rows
    for row in rows:
        made = ms_swift(row)
        check_row(normalize_row(made, ""), "", needs=("images", "prompt", "chosen"))
        answer = row["response"] if "response" in row else None
        assert answer is None or texts(made)[-1] == answer
        if "query" in row:
            assert len(made["images"]) == len(row.get("images", [])) or row["query"].count("<img>") == len(
                made["images"]
            )
            assert len(made["prompt"]) == 1 + 2 * len(row.get("history", []))
