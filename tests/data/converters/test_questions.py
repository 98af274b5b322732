import pytest
from support.published_rows import BASE64, IMAGE, OTHER_ROWS, PLAIN_ROW, ROWS

from trl_mm.data.converters.left_out import LeftOut
from trl_mm.data.converters.questions import (
    llava_hound,
    mdpo,
    mm_rlhf_pairs,
    mmpr,
    omnialign_v,
    opa_dpo,
    rlaif_v,
    rlhf_v,
    spa_vl,
    unrendered,
)


def texts(row):
    return [row[name][-1]["content"] for name in ("prompt", "chosen", "rejected")]


DOGS = ["What is it?", "A dog.", "Two dogs."]


def test_rlhf_v():
    row = rlhf_v(ROWS["rlhf_v"])
    assert texts(row) == DOGS and row["images"] == [IMAGE] and row["row_id"] == "7"
    assert (row["dataset"], row["source"], row["task"]) == ("RLHF-V", "coco", "detailed")
    assert row["rejected_model"] == "muffin" and row["image_path"] == "coco/1.png"
    as_object, older = OTHER_ROWS["rlhf_v"]
    assert rlhf_v(as_object) == row
    row = rlhf_v(older)
    assert texts(row) == ["What?", "A dog.", "No."] and row["row_id"] == "3" and row["dataset"] == "coco"
    assert row["images"] == [{"bytes": BASE64, "path": None}]


def test_an_image_beside_the_rows_is_named_by_its_path():
    assert rlhf_v({**ROWS["rlhf_v"], "image": None})["images"] == ["coco/1.png"]
    assert rlaif_v({**ROWS["rlaif_v"], "image": None})["images"] == ["coco/1.png"]


def test_the_empty_chosen_answer_of_rlhf_v_is_left_out():
    text = '{"question": "What is it?", "chosen": "", "rejected": "Two dogs."}'
    with pytest.raises(LeftOut, match="empty chosen"):
        rlhf_v({**ROWS["rlhf_v"], "text": text})


def test_rlaif_v():
    row = rlaif_v(ROWS["rlaif_v"])
    assert texts(row) == DOGS and row["row_id"] == "7"
    assert row["chosen_model"] == row["rejected_model"] == "llava15"
    assert rlaif_v({**ROWS["rlaif_v"], "idx": 7})["row_id"] == "7"
    row = rlaif_v({**ROWS["rlaif_v"], "origin_split": "train"})
    assert row["task"] == "train" and row["chosen_model"] is None


def test_spa_vl_is_safety_data():
    row = spa_vl(ROWS["spa_vl"])
    assert texts(row) == ["What is it?", "I would rather not say.", "A dog."]
    assert row["is_safety"] is True and [row[f"class{n}"] for n in (1, 2, 3)] == ["Harms", "Dogs", "Small"]


def test_mmpr():
    row = mmpr(ROWS["mmpr"])
    assert row["images"] == ["1.jpg"] and row["answer_gt"] == "dog" and row["chosen"][0]["content"].endswith(": dog")
    assert mmpr({**ROWS["mmpr"], "answer_gt": 3})["answer_gt"] == "3"
    assert mmpr({**ROWS["mmpr"], "image": None})["images"] == [] == mmpr({**ROWS["mmpr"], "image": ""})["images"]
    row = mmpr({**ROWS["mmpr"], "image": ["1.jpg", "2.jpg"], "question": "<image> or <image>?"})
    assert [part["type"] for part in row["prompt"][0]["content"]] == ["image", "text", "image", "text"]
    assert mmpr({**ROWS["mmpr"], "image": ["1.jpg", "2.jpg"]})["prompt"][0]["content"] == "What is it?"


def test_omnialign_v():
    row = omnialign_v(PLAIN_ROW)
    assert texts(row) == DOGS and row["row_id"] == "0" and row["images"] == ["knowledge/0.jpg"]


def test_mdpo_has_rendered_prompts():
    row = mdpo(ROWS["mdpo"])
    assert texts(row) == DOGS and row["images"] == ["images/1.jpg"]


@pytest.mark.parametrize(
    ("prompt", "turns"),
    [
        ("Chat. USER: What? ASSISTANT:", ["What?"]),
        ("Chat. USER: Who? ASSISTANT: Me.</s>USER: Why? ASSISTANT: ", ["Who?", "Me.", "Why?"]),
        ("USER: Who?\nASSISTANT:", ["Who?"]),
    ],
)
def test_only_the_turns_of_a_rendered_prompt_are_kept(prompt, turns):
    messages = unrendered(prompt)
    assert [message["content"] for message in messages] == turns
    assert [message["role"] for message in messages] == ["user", "assistant", "user"][: len(turns)]


@pytest.mark.parametrize("prompt", ["What?", "What does USER: mean?", "USER: a ASSISTANT: b", "ASSISTANT:", ""])
def test_other_prompts_stay(prompt):
    assert unrendered(prompt) == prompt


def test_opa_dpo():
    row = opa_dpo(ROWS["opa_dpo"])
    assert texts(row) == DOGS and row["images"] == [{"bytes": BASE64, "path": None}]
    older = {**ROWS["opa_dpo"], "query": "USER: <image>\nWhat is it? ASSISTANT:", "image_id": 5}
    del older["queries"]
    assert texts(opa_dpo(older)) == DOGS and opa_dpo(older)["row_id"] == "5"


def test_mm_rlhf_pairs():
    row = mm_rlhf_pairs(ROWS["mm_rlhf_pairs"])
    assert texts(row) == DOGS and (row["chosen_rating"], row["rejected_rating"]) == (5.0, 2.0)
    assert row["source"] == "safety" and row["is_safety"] and row["chosen_reason"] == "One."
    named = {**ROWS["mm_rlhf_pairs"], "scores": {"chosen": "4", "rejected": "?"}, "image": "long/1.jpg"}
    row = mm_rlhf_pairs(named)
    assert (row["chosen_rating"], row["rejected_rating"], row["is_safety"]) == (4.0, None, False)


def test_videos_and_ties_are_left_out():
    with pytest.raises(LeftOut, match="tie"):
        mm_rlhf_pairs({**ROWS["mm_rlhf_pairs"], "is_tie": True})
    assert mm_rlhf_pairs({**ROWS["mm_rlhf_pairs"], "is_tie": "False"})
    with pytest.raises(LeftOut, match="video"):
        mm_rlhf_pairs({**ROWS["mm_rlhf_pairs"], "image": None, "video": "long/1.mp4"})
    with pytest.raises(LeftOut, match="video"):
        llava_hound(ROWS["llava_hound"])
