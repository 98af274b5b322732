import pytest
from support.published import published
from support.published_rows import IMAGE, OTHER_ROWS, ROWS, messages

from trl_mm.data.converters.generic import columns_of, generic
from trl_mm.data.converters.left_out import LeftOut


def texts(row):
    return [row[name][-1]["content"] for name in ("prompt", "chosen", "rejected")]


DOGS = ["What is it?", "A dog.", "Two dogs."]


@pytest.mark.parametrize("question", ["question", "prompt", "Query", "instruction"])
@pytest.mark.parametrize(
    ("better", "worse"),
    [("chosen", "rejected"), ("preferred", "dispreferred"), ("y_w", "y_l"), ("y_win", "y_lose"), ("win", "lose")]
    + [("response_w", "response_l"), ("chosen_response", "rejected_response"), ("chosen", "reject")],
)
@pytest.mark.parametrize("image", ["images", "image", "img", "img_path", "image_path", "seen_by_all"])
def test_columns_are_known_by_name(question, better, worse, image):
    row = {"row": 1, question: DOGS[0], worse: DOGS[2], better: DOGS[1], image: "a.jpg", "licence": "CC0"}
    made = generic(row)
    assert texts(made) == DOGS and made["images"] == ["a.jpg"]
    assert (
        made["licence"] == "CC0"
        and made["row"] == 1
        and {*made} - {*row} <= {"images", "prompt", "chosen", "rejected"}
    )


def test_what_stays_and_what_it_is_called():
    row = generic({**ROWS["generic"], "id": 4, "system": "Be brief."})
    assert row["row_id"] == "4" and row["prompt"][0] == {"role": "system", "content": "Be brief."}
    assert {*row} == {"images", "prompt", "chosen", "rejected", "row_id", "licence"}


def test_an_instruction_may_have_an_input():
    row = {"instruction": "Translate.", "input": "Hund", "chosen": "dog", "rejected": "cat"}
    assert texts(generic(row))[0] == "Translate.\nHund" and "input" not in generic(row)
    assert texts(generic({**row, "input": ""}))[0] == "Translate."
    assert texts(generic({**row, "instruction": None}))[0] == "Hund"


def test_images_are_known_by_what_is_in_them():
    assert generic(OTHER_ROWS["generic"][1])["images"] == [IMAGE]
    row = {"question": "What?", "chosen": "a", "rejected": "b", "views": ["1.png", "2.png"], "image": None}
    assert generic(row)["images"] == ["1.png", "2.png"]
    assert generic({"question": "What?", "chosen": "a", "rejected": "b", "answer": "4"})["images"] == []


def test_a_stored_image_counts_before_its_path():
    row = {"question": "What?", "chosen": "a", "rejected": "b", "image_path": "a.jpg", "image": IMAGE}
    assert generic(row)["images"] == [IMAGE] and generic(row)["image_path"] == "a.jpg"
    assert generic({**row, "image": 17})["images"] == ["a.jpg"]  # a number is no image


def test_messages_in_place_of_texts():
    row = {
        "question": messages("What is it?"),
        "chosen": messages("What is it?", "A dog."),
        "rejected": {"value": "No."},
    }
    row["rejected"] = [{"role": "assistant", "content": "Two dogs."}]
    assert texts(generic(row)) == DOGS
    with pytest.raises(ValueError, match="the prompt ends with an answer"):
        generic({**row, "question": messages("What is it?", "Hm.")})


def test_what_is_missing_is_said():
    with pytest.raises(KeyError, match=r"known as prompt or rejected: name them with `columns`"):
        generic({"text": "What?", "chosen": "a"})
    with pytest.raises(LeftOut, match="video"):
        generic({"question": "What?", "chosen": "a", "rejected": "b", "video": "v.mp4"})


def test_columns_of():
    assert columns_of(ROWS["generic"]) == {
        "prompt": "question",
        "chosen": "preferred",
        "rejected": "dispreferred",
        "images": "img_path",
    }
    assert columns_of({"question": 3, "chosen": 1.0, "image": None}) == {}


def test_the_published_row_of_spa_vl():
    import json

    (row,) = json.loads(published("preference_spa_vl/readme_example.json").read_text())
    made = generic(row)
    assert texts(made) == [row["question"], row["chosen"], row["rejected"]] and made["images"] == [row["image"]]
