import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.published import published
from support.published_rows import IMAGE, ROWS, messages, turns

from trl_mm.data.converters.conversations import (
    llama_factory_v1,
    llava_rlhf,
    povid,
    rest_of,
    sharegpt,
    vision_feedback_mix,
)
from trl_mm.data.converters.left_out import LeftOut
from trl_mm.data.rows import check_row, normalize_row


def texts(row):
    return [message["content"] for name in ("prompt", "chosen", "rejected") for message in row[name]]


DOGS = ["What is it?", "A dog.", "Two dogs."]


def test_sharegpt():
    row = sharegpt({**ROWS["sharegpt"], "licence": "CC0", "system": "Be brief."})
    assert texts(row) == ["Be brief.", *DOGS] and row["images"] == [IMAGE] and row["licence"] == "CC0"
    assert row["prompt"][0]["role"] == "system" and "system" not in row and "conversations" not in row


@pytest.mark.parametrize(
    "answer", [str, lambda text: [{"role": "assistant", "content": text}], lambda text: {"value": text}]
)
def test_answers_of_sharegpt_are_texts_or_turns(answer):
    row = {**ROWS["sharegpt"], "chosen": answer("A dog."), "rejected": answer("Two dogs.")}
    assert texts(sharegpt(row)) == DOGS


def test_several_images_in_several_turns():
    row = {
        "conversations": turns("<image>Who?", "A dog.", "And this?<image>"),
        "chosen": {"from": "gpt", "value": "A cat."},
        "rejected": {"from": "gpt", "value": "A bird."},
        "images": ["1.jpg", "2.jpg"],
    }
    row = normalize_row(sharegpt(row), "")
    check_row(row, "")
    assert [part["type"] for part in row["prompt"][2]["content"]] == ["text", "image"]
    assert row["prompt"][0]["content"][0] == {"type": "image"}


def test_a_conversation_may_end_with_one_of_the_answers():
    row = {**ROWS["sharegpt"], "conversations": turns("<image>What is it?", "A dog. ")}
    assert texts(sharegpt(row)) == DOGS
    with pytest.raises(ValueError, match="neither `chosen` nor `rejected`"):
        sharegpt({**row, "conversations": turns("<image>What is it?", "A bird.")})


def test_povid():
    row = povid(ROWS["povid"])
    assert texts(row) == DOGS and row["images"] == ["COCO_train2014_000000033471.jpg"] and row["row_id"] == "33471"
    longer = {
        **ROWS["povid"],
        "conversations": turns("What is it?\n<image>", "A dog.", "Sure?", "Yes."),
        "rejected_conversations": turns("What is it?", "A dog.", "Sure?", "No."),
    }
    assert texts(povid(longer)) == ["What is it?", "A dog.", "Sure?", "Yes.", "No."]


@pytest.mark.parametrize("nest", [lambda turns: turns, lambda turns: [turns]])
def test_llava_rlhf(nest):
    row = {**ROWS["llava_rlhf"], "conversations": nest(ROWS["llava_rlhf"]["conversations"])}
    made = llava_rlhf(row)
    assert texts(made) == ["What is it?", "A bird.", "Sure?", "A dog.", "A cat."]
    assert made["hallucination"] is False and made["row_id"] == "wpKlmZ"
    for first in (1, 1.0, "1"):
        assert texts(llava_rlhf({**row, "preference": first}))[-2:] == ["A cat.", "A dog."]
    with pytest.raises(ValueError, match="`preference` must be 1 or 2, got 0"):
        llava_rlhf({**row, "preference": 0})


def test_llama_factory_v1():
    row = llama_factory_v1({**ROWS["llama_factory_v1"], "_file": "a"})
    assert texts(row) == DOGS and row["images"] == ["1.jpg"] and row["_file"] == "a"


def test_published_rows_of_llama_factory():
    rows = [json.loads(line) for line in published("llama_factory/v1_dpo_demo.jsonl").read_text().splitlines()]
    assert rows
    for row in rows:
        made = llama_factory_v1(row)
        said = [part["value"] for message in row["chosen_messages"] for part in message["content"]]
        assert texts(made)[:-1] == said and made["images"] == []
        check_row(normalize_row(made, ""), "")
    rows = json.loads(published("llama_factory/dpo_en_demo.head20.json").read_text())
    for row in rows:
        made = sharegpt(row)
        assert texts(made) == [
            *(turn["value"] for turn in row["conversations"]),
            *(row[n]["value"] for n in ("chosen", "rejected")),
        ]


@pytest.mark.parametrize(
    "question", [{"from": "human", "value": "<image>What is it?"}, {"human": "<image>What is it?"}]
)
@pytest.mark.parametrize("answer", [{"from": "gpt"}, {"gpt": ""}])
def test_vision_feedback_mix(question, answer):
    turns = [question, {**answer, "preference_values": ["A dog.", "Two dogs."]}]
    for value in (turns, json.dumps(turns)):
        row = vision_feedback_mix({**ROWS["vision_feedback_mix"], "conversations": value})
        assert texts(row) == DOGS and row["images"] == [IMAGE] and row["source"] == "RLHF-V" and row["row_id"] == "7"
    with pytest.raises(ValueError, match="no `preference_values` of two answers"):
        vision_feedback_mix({**ROWS["vision_feedback_mix"], "conversations": [question]})


def test_a_video_is_left_out():
    with pytest.raises(LeftOut, match="video"):
        sharegpt({**ROWS["sharegpt"], "images": [], "videos": ["1.mp4"]})
    assert "videos" not in sharegpt({**ROWS["sharegpt"], "videos": []})


@given(st.dictionaries(st.sampled_from(["image", "prompt", "rejected", "messages", "a", "b"]), st.integers()))
def test_the_rest_takes_no_place_of_ours(row):
    assert rest_of(row, "a") == {name: value for name, value in row.items() if name == "b"}


def test_messages_beside_answers_are_read_alike():
    row = {
        "messages": messages("<image>What is it?"),
        "chosen": "A dog.",
        "rejected": "Two dogs.",
        "images": ["1.jpg"],
    }
    assert texts(sharegpt(row)) == DOGS
