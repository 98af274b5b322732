import json

import pytest
from datasets import Dataset
from support.tiny import tiny_image

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


def test_sharegpt_has_its_images_in_a_list(tmp_path):
    rows = [{"images": ["1.jpg"], "conversations": turns("<image>What is it?", "A dog.")}]
    (row,) = load(tmp_path, rows)
    assert row["images"][0].size == tiny_image().size and row["chosen"][0]["content"] == "A dog."


@pytest.mark.parametrize("images", [{"image": "1.jpg"}, {"images": ["1.jpg"]}, {}])
@pytest.mark.parametrize("suffix", ["json", "parquet"])
def test_conversations_without_a_converter_are_told_which(tmp_path, images, suffix):
    rows = [{"id": "a", **images, "conversations": turns("What is it?", "A dog.")}]
    file = tmp_path / f"llava.{suffix}"
    Dataset.from_list(rows).to_parquet(file) if suffix == "parquet" else file.write_text(json.dumps(rows))
    with pytest.raises(ValueError, match=rf"llava.{suffix}, row 0: .*Pass `--converter llava_instruct` .*\)\.$"):
        load_preferences(file, needs=NEEDS)
    with pytest.raises(ValueError, match="Pass `--converter llava_instruct`.*make `rejected` with `trl-mm bdhs`"):
        load_preferences(file)


@pytest.mark.parametrize(
    "row",
    [
        {"conversations": "What is it?"},
        {"conversations": []},
        {"conversations": [{"role": "user", "content": "What is it?"}]},
        {"question": "What is it?", "answer": "A dog."},
    ],
)
def test_other_layouts_are_told_of_no_converter(tmp_path, row):
    (tmp_path / "other.json").write_text(json.dumps([{"images": [], **row}]))
    with pytest.raises(ValueError, match="column `prompt` is missing") as error:
        load_preferences(tmp_path / "other.json", needs=NEEDS)
    assert "llava_instruct" not in str(error.value)


def test_a_pair_of_conversations_is_no_sft_row(tmp_path):
    row = {"images": [], "conversations": turns("What?", "A dog."), "rejected_conversations": turns("What?", "A cat.")}
    (tmp_path / "pairs.json").write_text(json.dumps([row]))
    with pytest.raises(ValueError, match="Pass `--converter povid`"):
        load_preferences(tmp_path / "pairs.json")


def test_an_unknown_name_lists_the_known_ones():
    assert find_converter(None) is None
    with pytest.raises(ValueError, match="`converter` must be one of llava_instruct, .*, got 'llava'"):
        find_converter("llava")
