import json

import pytest
from tiny import tiny_image

from trl_mm.data.converters import find_converter
from trl_mm.data.loading import load_preferences


NEEDS = ("images", "prompt", "chosen")


def turns(*texts):
    return [{"from": ("human", "gpt")[n % 2], "value": text} for n, text in enumerate(texts)]


def load(folder, rows):
    (folder / "images").mkdir()
    tiny_image().save(folder / "images" / "1.jpg")
    (folder / "llava.json").write_text(json.dumps(rows))
    return load_preferences(
        folder / "llava.json",
        image_folder=folder / "images",
        converter=find_converter("llava_instruct"),
        needs=NEEDS,
    )


def test_a_file_as_it_is_published(tmp_path):
    rows = [
        {"id": "a", "image": "1.jpg", "conversations": turns("What is it?\n<image>", "A dog.", "Sure?", "Yes.")},
        {"id": "b", "conversations": turns("Who are you?", "A model.")},
    ]
    first, second = load(tmp_path, rows)
    assert first["images"][0].size == tiny_image().size and first["row_id"] == "a"
    assert [message["role"] for message in first["prompt"]] == ["user", "assistant", "user"]
    assert "<image>" not in json.dumps(first["prompt"])
    assert second["images"] == [] and second["row_id"] == "b"
    assert [row["chosen"][0]["content"] for row in (first, second)] in (
        ["Yes.", "A model."],
        [[{"type": "text", "text": "Yes."}], [{"type": "text", "text": "A model."}]],
    )


@pytest.mark.parametrize(
    ("row", "error"),
    [
        ({"id": "a", "conversations": turns("Who?", "Me.", "Sure?")}, "does not end with a turn of the assistant"),
        ({"id": "a", "conversations": []}, "does not end with a turn of the assistant"),
        ({"id": "a", "conversations": [{"from": "robot", "value": "Hm."}]}, "KeyError.*robot"),
        ({"id": "a", "text": "x"}, "KeyError.*conversations.*Columns found: id, text"),
        ({"id": "a", "image": "2.jpg", "conversations": turns("<image>", "A dog.")}, "2.jpg"),
    ],
)
def test_a_row_that_is_not_like_that_is_named(tmp_path, row, error):
    good = {"id": "b", "conversations": turns("Who are you?", "A model.")}
    with pytest.raises(ValueError, match=rf"llava.json, row 1: .*{error}"):
        load(tmp_path, [good, row])


def test_an_unknown_name_lists_the_known_ones():
    assert find_converter(None) is None
    with pytest.raises(ValueError, match="`converter` must be one of llava_instruct, got 'llava'"):
        find_converter("llava")
