"""Layouts of rows and of folders that others write, and rows that nobody should."""

import base64
import io
import json
import os
import socket

import datasets
import numpy as np
import PIL.Image
import pytest
from datasets import Dataset, DatasetDict, Image, List
from hypothesis import given
from hypothesis import strategies as st

from trl_mm.data import row_limits
from trl_mm.data.images import ImageError
from trl_mm.data.layouts import is_unpaired, with_known_columns
from trl_mm.data.loading import load_preferences, prepare_preferences
from trl_mm.data.streaming import stream_preferences


SFT = ("images", "prompt", "chosen")


def png(level=7):
    buffer = io.BytesIO()
    PIL.Image.fromarray(np.full((5, 6, 3), level, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


PAIR = {"prompt": [user("What?")], "chosen": [assistant("A.")], "rejected": [assistant("B.")]}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.png").write_bytes(png())
    return tmp_path


def write(folder, *rows, name="rows.jsonl"):
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / name


def plain(dataset, names=("prompt", "chosen", "rejected")):
    return [{name: row[name] for name in names if name in row} for row in dataset.select_columns(list(names))]


@pytest.mark.parametrize(
    "row",
    [
        {"chosen": [user("What?"), assistant("A.")], "rejected": [user("What?"), assistant("B.")]},
        {"prompt": "What?", "chosen": [user("What?"), assistant("A.")], "rejected": [user("What?"), assistant("B.")]},
        {**PAIR, "chosen": [user("What?"), assistant("A.")], "rejected": [user("What?"), assistant("B.")]},
        {"messages": [user("What?"), assistant("A.")], "rejected_response": "B."},
    ],
    ids=["implicit", "twice", "twice as messages", "ms-swift"],
)
def test_layouts_of_pairs(row, folder):
    dataset = load_preferences(write(folder, {"images": ["a.png"], **row}))
    assert plain(dataset) == [PAIR]
    assert prepare_preferences(Dataset.from_list([{"images": [png()], **row}])).select_columns(list(PAIR))[0] == PAIR


@pytest.mark.parametrize("name", ["file_name", "image_file_name", "file_names", "images_file_names"])
def test_columns_of_file_names(name, folder):
    row = {name: ["a.png"] if "names" in name else "a.png", **PAIR}
    dataset = load_preferences(write(folder, row))
    assert len(dataset[0]["images"]) == 1 and name not in dataset.column_names


@pytest.mark.parametrize(
    ("messages", "prompt", "chosen"),
    [
        ([user("What?"), assistant("A.")], [user("What?")], [assistant("A.")]),
        (
            [user("1"), assistant("2"), user("3"), assistant("4")],
            [user("1"), assistant("2"), user("3")],
            [assistant("4")],
        ),
    ],
)
def test_messages_are_sft_rows(messages, prompt, chosen):
    rows = [{"images": [], "messages": messages}]
    assert plain(prepare_preferences(rows, needs=SFT), SFT[1:]) == [{"prompt": prompt, "chosen": chosen}]
    with pytest.raises(ValueError, match="row 0: column `rejected` is missing.*SFT rows have none"):
        prepare_preferences(rows)


def test_a_completion_is_the_chosen_answer_unless_it_has_a_label():
    row = {"images": [], "prompt": "What?", "completion": [{**assistant("A."), "name": None}]}
    assert prepare_preferences([row], needs=SFT)["chosen"][0] == [assistant("A.")]
    with pytest.raises(ValueError, match="`chosen` is missing.*unpaired: a pair needs two answers"):
        prepare_preferences([{**row, "label": True}])


@pytest.mark.parametrize(
    ("row", "cure"),
    [
        (
            {"chosen": "Human: What? Assistant: A.", "rejected": "Human: What? Assistant: B."},
            r"dataset.map\(trl.extract",
        ),
        ({"conversations": [{"role": "user", "content": "What?"}]}, "a function of your own as `converter`"),
        (
            {"chosen": [user("1"), assistant("A.")], "rejected": [user("2"), assistant("B.")]},
            "do not begin with the same",
        ),
    ],
)
def test_layouts_that_can_be_read_in_two_ways_are_named(row, cure):
    with pytest.raises(ValueError, match=f"row 0: column `prompt` is missing.*{cure}"):
        prepare_preferences([{"images": [], **row}])


@given(
    st.lists(st.sampled_from("ab"), min_size=1, max_size=4), st.lists(st.sampled_from("ab"), min_size=1, max_size=4)
)
def test_implicit_prompts_are_those_of_trl(first, second):
    from trl import extract_prompt

    def messages(texts):
        return [(assistant if index % 2 else user)(text) for index, text in enumerate(texts)]

    row = {"chosen": messages([*first, "x"]), "rejected": messages([*second, "y"])}
    made = with_known_columns(row)
    if "prompt" in made:
        assert made == extract_prompt(row)
        assert made["chosen"][0]["role"] == made["rejected"][0]["role"] == "assistant"
    else:
        assert made == row


BASE64 = base64.b64encode(png()).decode()


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "a.png"}},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{BASE64}"}},
        {"type": "image_url", "image_url": "a.png"},
        {"type": "input_image", "image_url": "a.png"},
        {"type": "image", "url": "a.png"},
        {"type": "image", "path": "a.png"},
        {"type": "image", "base64": BASE64},
        {"type": "image", "image": BASE64},
        {"type": "image", "image": {"bytes": BASE64}},
    ],
)
def test_parts_that_hold_an_image(part, folder):
    row = {**PAIR, "prompt": [user([part, {"type": "text", "text": "What?"}])]}
    (row,) = load_preferences(write(folder, row))
    assert [image.getpixel((0, 0)) for image in row["images"]] == [(7, 7, 7)]
    assert row["prompt"][0]["content"] == [{"type": "image", "text": None}, {"type": "text", "text": "What?"}]


def test_a_part_with_an_address_is_refused(folder):
    part = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    with pytest.raises(ImageError, match="rows.jsonl, row 0: .* is an address.*Download"):
        load_preferences(write(folder, {**PAIR, "prompt": [user([part])]}))


def saved(folder):
    """Two splits whose rows differ."""
    rows = [{"images": [{"bytes": png(), "path": None}], **PAIR}]
    features = {**Dataset.from_list(rows).features, "images": List(Image())}
    train = Dataset.from_list(rows, features=datasets.Features(features))
    return train, DatasetDict(train=train, test=train.map(lambda row: {"chosen": [assistant("C.")]}))


@pytest.mark.parametrize("streaming", [False, True])
def test_folders_of_save_to_disk(tmp_path, streaming):
    train, both = saved(tmp_path)
    train.save_to_disk(tmp_path / "one")
    both.save_to_disk(tmp_path / "two")
    for path, split, answer in (("one", "train", "A."), ("two", "train", "A."), ("two", "test", "C.")):
        (row,) = load_preferences(tmp_path / path, split=split, streaming=streaming)
        assert row["chosen"] == [assistant(answer)] and row["images"][0].getpixel((0, 0)) == (7, 7, 7)
        (item,) = stream_preferences(tmp_path / path, split=split)
        assert item.row["images"][0]["bytes"] == png()
    with pytest.raises(ValueError, match="two has no split 'validation', only train, test"):
        load_preferences(tmp_path / "two", split="validation", streaming=streaming)
    with pytest.raises(ValueError, match="one has no split 'test', only train"):
        load_preferences(tmp_path / "one", split="test", streaming=streaming)
    (tmp_path / "one" / "state.json").write_text("{}")
    with pytest.raises(ValueError, match="one was written by `save_to_disk`, but cannot be read.*Save it again"):
        load_preferences(tmp_path / "one")


def test_metadata_of_an_image_folder(folder):
    (folder / "metadata.csv").write_text("file_name,prompt,chosen,rejected\na.png,What?,A.,B.\n")
    assert plain(load_preferences(folder)) == plain(load_preferences(folder / "metadata.csv")) == [PAIR]
    assert [item.row["chosen"] for item in stream_preferences(folder)] == [PAIR["chosen"]]
    assert len(list(load_preferences(folder, streaming=True))) == 1
    (folder / "metadata.csv").write_text('file_name,prompt\na.png,What?\n"a.png\n')
    with pytest.raises(ValueError, match="metadata.csv, line 3: no CSV"):
        load_preferences(folder)
    (folder / "metadata.csv").write_text("file_name,prompt\na.png,What?,more\n")
    with pytest.raises(ValueError, match="metadata.csv, line 2: no CSV .*not as many values"):
        load_preferences(folder)
    write(folder, {"file_name": "a.png", **PAIR}, name="metadata.jsonl")
    assert plain(load_preferences(folder)) == [PAIR]


def test_folders_of_data_in_a_folder_are_named(folder):
    (folder / "train").mkdir()
    write(folder / "train", PAIR, name="metadata.jsonl")
    with pytest.raises(FileNotFoundError, match="Folders in it do: train"):
        load_preferences(folder)


@pytest.mark.parametrize("kind", ["pipe", "socket", "in a folder"])
def test_what_never_ends_is_no_data(tmp_path, kind):
    path = tmp_path / "rows.jsonl"
    if kind == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(path))
    else:
        os.mkfifo(path)
    path = tmp_path if kind == "in a folder" else path
    for load in (load_preferences, stream_preferences):
        with pytest.raises(ValueError, match="rows.jsonl is no regular file"):
            load(path)


@pytest.mark.parametrize("where", ["prompt", "source", "chosen", "name"])
def test_half_a_character_is_named(folder, where):
    half = {"prompt": "What \ud83d?", "source": {"x": ["\udc00"]}, "chosen": "\ud83d", "name": 1}[where]
    row = {"images": ["a.png"], **PAIR, **({"\ud83d": 1} if where == "name" else {where: half})}
    file = write(folder, {"images": ["a.png"], **PAIR}, row)
    name = r"\\ud83d" if where == "name" else where
    with pytest.raises(ValueError, match=f"rows.jsonl, row 1: `{name}` holds half of a character.*Write all") as error:
        load_preferences(file)
    assert str(error.value).isprintable()
    with pytest.raises(ValueError, match="half of a character"):
        list(stream_preferences(file))


@pytest.mark.parametrize("depth", [40, 200_000])
def test_nesting_without_end_is_an_error(folder, depth):
    text = json.dumps({"images": [], **PAIR})
    file = folder / "rows.jsonl"
    file.write_text(f'{text}\n{text[:-1]}, "deep": {"[" * depth}{"]" * depth}}}\n')
    message = "row 1: `deep` is nested deeper than 32 levels" if depth == 40 else "rows.jsonl, line 2: no JSON"
    with pytest.raises(ValueError, match=message):
        load_preferences(file)
    file.write_text(f"{text}\n{'[' * depth}{']' * depth}\n")
    with pytest.raises(ValueError, match="row 1: |line 2: "):
        load_preferences(file)


def test_rows_have_bounds(monkeypatch):
    row = {**PAIR, "images": [b"x"] * 5000}
    with pytest.raises(ValueError, match="row 0: the row has 5,000 images, more than 256"):
        prepare_preferences([row])
    long = {**PAIR, "images": [], "chosen": "word " * 6_000_000}
    with pytest.raises(ValueError, match="row 0: `chosen` has 30,000,000 characters, more than 1,000,000") as error:
        prepare_preferences([long])
    assert len(str(error.value)) < 300
    fine = {**PAIR, "images": [], "chosen": "w" * row_limits.MAX_CHARACTERS}
    assert len(prepare_preferences([fine])) == 1


@pytest.mark.parametrize(
    "row",
    [
        {"\x1b[2J" + "x" * 100_000: 1},
        {f"column {index}": 1 for index in range(5000)},
        {**PAIR, "images": [], "chosen": {"\x1b]0;x\x07": "y" * 1_000_000}},
        {**PAIR, "images": ["\x1b[31m" * 100_000]},
        {**PAIR, "images": [{"\x1b": "\x1b" * 100_000}]},
        {**PAIR, "images": [], "prompt": [user([{"type": "\x1b" * 100_000}])]},
    ],
)
def test_messages_are_short_and_can_be_printed(row):
    with pytest.raises(ValueError, match="row 0") as error:
        prepare_preferences([row])
    assert len(str(error.value)) < 8000 and str(error.value).isprintable()


@pytest.mark.parametrize("image", [None, {"bytes": None, "path": None}, "https://example.org/a.png"])
def test_an_image_that_is_not_there_can_be_skipped(folder, image, caplog):
    file = write(folder, {"images": ["a.png"], **PAIR}, {"images": [image], **PAIR})
    with pytest.raises(ImageError, match="row 1: .*on_bad_image='skip'"):
        load_preferences(file)
    assert len(load_preferences(file, on_bad_image="skip")) == 1
    assert len(load_preferences(file, on_bad_image="keep")) == 2
    with pytest.raises(ValueError, match="no rows left of 1. .*The first: .*row 0: .*image"):
        load_preferences(write(folder, {"images": [image], **PAIR}), on_bad_image="skip")


@pytest.mark.parametrize("kind", ["link", "dangling", "pipe", "folder"])
def test_a_list_of_bad_rows_is_not_written_through_a_link(folder, kind):
    mine, listed = folder / "mine.txt", folder / "bad_rows.jsonl"
    mine.write_text("mine")
    if kind == "pipe":
        os.mkfifo(listed)
    elif kind == "folder":
        listed.mkdir()
    else:
        listed.symlink_to(mine if kind == "link" else folder / "gone")
    for rows in ([{"images": ["a.png"], **PAIR}], [{"images": ["a.png"], **PAIR}, {"images": ["gone.png"], **PAIR}]):
        file = write(folder, *rows)
        with pytest.raises(ValueError, match=r"bad_rows.jsonl\) is a link or no regular file. Remove it"):
            load_preferences(file, on_bad_image="skip")
        assert len(load_preferences(write(folder, rows[0]))) == 1
    assert mine.read_text() == "mine" and not (folder / "gone").exists()


@pytest.mark.parametrize("name", ["label", "kto_tag"])
@pytest.mark.parametrize("images", [{}, {"images": []}])
def test_unpaired_answers_are_named(name, images):
    row = {"messages": [user("What?"), assistant("A.")], name: False, **images}
    for settings in ({}, {"needs": SFT}, {"converter": "auto"}, {"converter": "auto", "needs": SFT}):
        with pytest.raises(ValueError, match="row 0: .*are unpaired: a pair needs two answers to one prompt"):
            prepare_preferences([row], **settings)
    assert is_unpaired(row) and not is_unpaired({**row, name: 3}) and not is_unpaired({**row, "rejected": "B."})


@pytest.mark.parametrize(("kind", "said"), [("video_url", "video"), ("audio", "sound")])
def test_parts_that_are_no_images_are_left_out(kind, said):
    content = [{"type": kind, "value": "a"}, {"type": "text", "value": "What?"}]
    row = {"messages": [{"role": "user", "content": content}, assistant("A.")]}
    with pytest.raises(ValueError, match=f"The first: {said}"):
        prepare_preferences([row], converter="auto", needs=SFT)
