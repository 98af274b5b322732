import pickle

import pytest
from support.tiny import tiny_image

from trl_mm.data import reader as reader_module
from trl_mm.data.converters.left_out import LeftOut
from trl_mm.data.images import ImageError
from trl_mm.data.reader import RowReader


def reader(folder, converter=None, needs=("images", "prompt", "chosen"), on_bad_image="error", file="rows.jsonl"):
    return RowReader(converter, folder, needs, on_bad_image, Locate(file))


def read(made_by, row, index, decoded=None):
    """The only row that a reader makes of one."""
    (made,) = made_by.read(row, index, decoded)
    return made


class Locate:
    """Can be pickled and compared."""

    def __init__(self, file):
        self.file = file

    def __call__(self, index):
        return self.file, index + 1

    def __eq__(self, other):
        return self.file == other.file


def row(**columns):
    return {"images": ["a.png"], "prompt": "What is it?", "chosen": "A dog.", **columns}


@pytest.fixture
def folder(tmp_path):
    tiny_image().save(tmp_path / "a.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    return tmp_path


def test_a_row_comes_out_in_the_row_format(folder):
    stored = row(score=3)
    made = read(reader(folder), stored, 7)
    assert made == {
        "images": [{"bytes": None, "path": str(folder / "a.png")}],
        "prompt": [{"role": "user", "content": "What is it?"}],
        "chosen": [{"role": "assistant", "content": "A dog."}],
        "score": 3,
        "row_id": "7",
    }
    assert stored == row(score=3)
    assert read(reader(folder), row(row_id=12), 7)["row_id"] == "12"
    assert read(reader(folder), row(row_id=None), 7)["row_id"] == "7"


def test_it_can_be_pickled(folder):
    assert pickle.loads(pickle.dumps(reader(folder))) == reader(folder)


def test_a_converter_gets_a_row_of_its_own(folder):
    def convert(row):
        row["chosen"] = row.pop("answer")
        return row

    stored = {"images": [], "prompt": "What?", "answer": "A cat."}
    made = read(reader(folder, convert), stored, 0)
    assert made["chosen"] == [{"role": "assistant", "content": "A cat."}] and "answer" in stored


@pytest.mark.parametrize("error", [KeyError("answer"), TypeError("no list"), ValueError("odd"), AttributeError("x")])
def test_a_converter_that_fails_is_an_error_of_the_row(folder, error):
    def convert(row):
        raise error

    with pytest.raises(ValueError, match=r"rows\.jsonl, row 4: the converter failed with .*Columns found: .*chosen"):
        read(reader(folder, convert), row(), 3)


def test_a_conversation_names_its_converter(folder):
    said = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A dog."}]
    with pytest.raises(ValueError, match="row 1: the row is written for the converter .*--converter llava_instruct"):
        read(reader(folder), {"image": "a.png", "conversations": said}, 0)


def test_a_position_without_a_file_stands_alone(folder):
    assert reader(folder, file="").where(2) == "row 3"
    with pytest.raises(ValueError, match="^row 3: "):
        read(reader(folder, file=""), {"images": [], "prompt": "What?"}, 2)


@pytest.mark.parametrize(("on_bad_image", "cured"), [("error", True), ("skip", False)])
def test_a_missing_image_is_named(folder, on_bad_image, cured):
    with pytest.raises(ImageError, match=r"rows\.jsonl, row 1: Image file .*gone\.png. does not exist") as error:
        read(reader(folder, on_bad_image=on_bad_image), row(images=["gone.png"]), 0)
    assert ("on_bad_image='skip'" in str(error.value)) == cured


def test_images_that_are_kept_are_not_looked_at(folder):
    keeping = reader(folder, on_bad_image="keep")
    made = read(keeping, row(images=["gone.png", "broken.png"]), 0, decoded=set())
    assert made["images"] == [
        {"bytes": b"", "path": "gone.png"},
        {"bytes": None, "path": str(folder / "broken.png")},
    ]


def test_a_path_out_of_the_folder_is_no_bad_image(folder):
    for on_bad_image in ("error", "skip", "keep"):
        with pytest.raises(ValueError, match="row 1: .*leaves the image folder") as error:
            read(reader(folder, on_bad_image=on_bad_image), row(images=["../a.png"]), 0)
        assert not isinstance(error.value, ImageError)


def test_a_file_is_decoded_at_most_once_and_only_if_asked(folder, monkeypatch):
    opened, open_image = [], reader_module.open_image
    monkeypatch.setattr(reader_module, "open_image", lambda image: opened.append(image["path"]) or open_image(image))
    read(reader(folder), row(images=["a.png", "broken.png"]), 0)
    assert opened == []
    decoded = set()
    for index in range(2):
        read(reader(folder), row(images=["a.png", "a.png"]), index, decoded)
    assert opened == [str(folder / "a.png")] and decoded == {*opened}
    inside = {"bytes": (folder / "a.png").read_bytes(), "path": str(folder / "a.png")}
    read(reader(folder), row(images=[inside]), 2, decoded)  # bytes of its own, whatever their name
    assert len(opened) == 2
    with pytest.raises(ImageError, match="row 4: "):
        read(reader(folder), row(images=["broken.png"]), 3, decoded)
    assert decoded == {str(folder / "a.png")}


def test_an_unknown_way_with_bad_images_lists_the_known_ones(folder):
    with pytest.raises(ValueError, match="`on_bad_image` must be 'error', 'skip' or 'keep', got 'drop'"):
        reader(folder, on_bad_image="drop")


def pairs_of(row):
    """Several rows of one, none of a tie."""
    if row["answers"] == ["tie"]:
        raise LeftOut("tie")
    return [{"images": row["images"], "prompt": "What?", "chosen": answer} for answer in row["answers"]]


def test_a_converter_may_make_several_rows_of_one(folder):
    made = reader(folder, pairs_of).read({"images": ["a.png"], "answers": ["A.", "B."]}, 4)
    assert [row["row_id"] for row in made] == ["4-0", "4-1"]
    assert [row["chosen"][0]["content"] for row in made] == ["A.", "B."]
    (made,) = reader(folder, pairs_of).read({"images": [], "answers": ["A."]}, 4)
    assert made["row_id"] == "4"


def test_several_rows_keep_ids_of_their_own_if_they_differ(folder):
    rows = [row(row_id="a"), row(row_id="b"), row()]
    made = reader(folder, lambda stored: rows).read({}, 1)
    assert [row["row_id"] for row in made] == ["a", "b", "1-2"]
    made = reader(folder, lambda stored: [row(row_id="a"), row(row_id="a")]).read({}, 1)
    assert [row["row_id"] for row in made] == ["a-0", "a-1"]


def test_a_row_that_is_left_out_is_no_error_of_the_converter(folder):
    with pytest.raises(LeftOut, match="^tie$"):
        reader(folder, pairs_of).read({"images": [], "answers": ["tie"]}, 0)
    with pytest.raises(LeftOut, match="^no pair in the row$"):
        reader(folder, pairs_of).read({"images": [], "answers": []}, 0)


def test_an_image_in_several_rows_of_one_is_decoded_once(folder, monkeypatch):
    opened, open_image = [], reader_module.open_image
    monkeypatch.setattr(reader_module, "open_image", lambda image: opened.append(image["path"]) or open_image(image))
    stored = {"image": {"bytes": (folder / "a.png").read_bytes(), "path": "b.png"}, "answers": ["A.", "B.", "C."]}
    made = reader(folder, lambda row: pairs_of({**row, "images": [row["image"]]})).read(stored, 0, set())
    assert len(made) == 3 and opened == ["b.png"]
    other = {**stored, "image": {"bytes": (folder / "broken.png").read_bytes(), "path": "b.png"}}
    with pytest.raises(ImageError, match="row 1: "):
        reader(folder, lambda row: [*pairs_of({**row, "images": [stored["image"], other["image"]]})]).read(
            stored, 0, set()
        )


def test_rows_about_a_video_are_left_out_whatever_their_layout():
    row = {"prompt": "What happens?", "chosen": "A dog runs.", "rejected": "A cat runs."}
    made_by = reader(None, needs=("prompt",))
    for video in ({"video": "v.mp4"}, {"videos": ["v.mp4"], "images": []}):
        with pytest.raises(LeftOut, match="video"):
            read(made_by, {**row, **video}, 0)
    assert read(made_by, {**row, "video": None}, 0) and read(
        made_by, {**row, "video": "v.mp4", "images": [tiny_image()]}, 0
    )
