import pytest
from support.published_rows import ROWS, messages

from trl_mm.data.converters.two_images import ic_vco


def test_each_image_has_its_right_answer():
    first, second = ic_vco({**ROWS["ic_vco"], "id": 7})
    assert (first["images"], second["images"]) == (["images/1.jpg"], ["images/1_edited.jpg"])
    for name, other in (("chosen", "rejected"), ("rejected", "chosen")):
        assert first[name] == second[other]
        assert first[f"{name}_response_spans"] == second[f"{other}_response_spans"]
    assert first["chosen"][0]["content"] == "A dog." and first["chosen_response_spans"] == [[0, 1]]
    assert [first["row_id"], second["row_id"]] == ["7-0", "7-1"]


def test_messages_and_names_of_files():
    row = {**ROWS["ic_vco"], "images": None, "images_file_names": ["1.jpg", "2.jpg"]}
    row |= {"prompt": messages("What is it?"), "chosen": messages("", "A dog.")[1:]}
    first, second = ic_vco(row)
    assert second["images"] == ["2.jpg"] and second["rejected"][0]["content"] == "A dog."
    assert first["prompt"] == messages("What is it?")


def test_other_numbers_of_images_are_named():
    with pytest.raises(ValueError, match="a row has two images, got 1"):
        ic_vco({**ROWS["ic_vco"], "images": ["1.jpg"]})
