"""What comes out of a conversion: rows that can be loaded, and counts and a list of all that does not."""

import io
import json
import re
import struct
import zlib

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset
from support.files import contents

from trl_mm.data.conversion import ConvertedRows
from trl_mm.data.converted_shards import write_converted
from trl_mm.data.converters.left_out import LeftOut
from trl_mm.data.converters.pairs import rows_of
from trl_mm.data.loading import load_preferences
from trl_mm.data.manifest import read_manifest
from trl_mm.data.reader import RowReader
from trl_mm.data.row_filters import RowFilter
from trl_mm.data.rows import PREFERENCE_COLUMNS
from trl_mm.data.source_rows import SourceRows


def picture(seed, size=(12, 10)):
    buffer = io.BytesIO()
    noise = np.random.default_rng(seed).integers(0, 255, (*size[::-1], 3), np.uint8)
    PIL.Image.fromarray(noise).save(buffer, "PNG")
    return buffer.getvalue()


def bomb():
    """A PNG of 40,000 x 40,000 pixels in a few bytes."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


def row(number, **columns):
    texts = {"prompt": f"<image>\nWhat is {number}?", "chosen": f"A {number}.", "rejected": f"B {number}."}
    return {"image": f"{number}.png", **texts, "source": "coco" if number % 2 else "vg", **columns}


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    for number in range(20):
        (folder / f"{number}.png").write_bytes(picture(number))
    return folder


def write_rows(source, rows):
    (source / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def make(source, output, converter=None, **options):
    rows = SourceRows(source)
    reader = RowReader(converter, rows.folder, PREFERENCE_COLUMNS, "skip", rows.locate)
    return ConvertedRows(rows, reader, output / "bad_rows.jsonl", **options)


def convert(source, output, settings=None, converter=None, shard_size=4, **options):
    return write_converted(make(source, output, converter, **options), output, settings or {}, shard_size=shard_size)


def listed(output):
    return [json.loads(line) for line in (output / "bad_rows.jsonl").read_text().splitlines()]


def chosen(rows):
    return [row["chosen"][-1]["content"] for row in rows]


def test_rows_are_those_that_loading_makes(source, tmp_path):
    write_rows(source, [row(number, idx=number) for number in range(10)])
    summary = convert(source, tmp_path / "out")
    made, loaded = load_preferences(tmp_path / "out"), load_preferences(source)
    assert sorted(made.column_names) == sorted(loaded.column_names)
    for ours, theirs in zip(made, loaded, strict=True):
        assert ours["images"][0].tobytes() == theirs["images"][0].tobytes()
        assert {**ours, "images": 0} == {**theirs, "images": 0}
    assert summary == {
        "read": 10,
        "written": {"train": 10},
        "left_out": {},
        "pairs_left_out": {},
        "not_wanted": {},
        "bad": {},
        "safety": 0,
        "images_found": 10,
        "images_missing": 0,
    }
    assert listed(tmp_path / "out") == []
    assert read_manifest(tmp_path / "out")["summary"] == summary


def test_datasets_reads_the_folder_with_its_card(source, tmp_path):
    write_rows(source, [row(number) for number in range(10)])
    convert(source, tmp_path / "out")
    assert chosen(load_dataset(str(tmp_path / "out"), split="train")) == [f"A {number}." for number in range(10)]
    card = (tmp_path / "out" / "README.md").read_text()
    assert "10 preference pairs on images" in card and "- 10 rows read, 10 written" in card


def test_pairs_left_out_of_rows_that_make_others_are_counted(source, tmp_path):
    def two_pairs_a_tie_and_equal_answers(row):
        answers = [("A.", "B."), ("A.", "C."), ("A.", "A.")]
        return rows_of([([row["image"]], "What?", *two, {}) for two in answers], None, ["tie"])

    write_rows(source, [row(number) for number in range(3)])
    summary = convert(source, tmp_path / "out", converter=two_pairs_a_tie_and_equal_answers)
    assert summary["written"] == {"train": 6} and summary["left_out"] == {}
    assert summary["pairs_left_out"] == {"tie": 3, "both answers are the same": 3}
    card = (tmp_path / "out" / "README.md").read_text()
    assert "6 pairs left out of rows that make others" in card


BAD = {
    "an empty answer": (row(0, chosen=" "), "`chosen` is empty"),
    "no answer": (row(0, rejected=None), "`rejected` must be a string or a list of messages, but it is None"),
    "a missing image": (row(0, image="gone.png"), "Image file … does not exist"),
    "a path out of the folder": (row(0, image="../secret.png"), "Image path … leaves the image folder …"),
    "an absolute path": (row(0, image="/etc/passwd"), "Image path … leaves the image folder …"),
    "an address": (
        row(0, image="https://example.com/a.png"),
        "The image … is an address, and nothing",
    ),
    "a page for an image": (row(0, image="page.png"), "Image … is no image"),
    "half an image": (row(0, image="half.png"), "Image … cannot be decoded"),
    "a bomb": (row(0, image="bomb.png"), "Image … is too large"),
    "no row": (3, "a row must be an object with named columns, got N"),
    "half a character": (row(0, chosen="\ud83d"), "`chosen` holds half of a character"),
    "a marker too many": (row(0, prompt="<image> and <image>?"), "the number of image placeholders in `prompt`"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_row_costs_itself_and_is_listed(source, tmp_path, name):
    bad, reason = BAD[name]
    (source / "page.png").write_bytes(b"<html><body>404 Not Found</body></html>")
    (source / "half.png").write_bytes(picture(3, (300, 200))[:4000])
    (source / "bomb.png").write_bytes(bomb())
    write_rows(source, [row(1), bad, row(2)])
    summary = convert(source, tmp_path / "out")
    assert chosen(load_preferences(tmp_path / "out")) == ["A 1.", "A 2."]
    assert (summary["read"], summary["written"], sum(summary["bad"].values())) == (3, {"train": 2}, 1)
    assert next(iter(summary["bad"])).startswith(reason)
    (entry,) = listed(tmp_path / "out")
    assert (entry["file"], entry["row"]) == (str(source / "rows.jsonl"), 1) and "rows.jsonl, row 1: " in entry[
        "reason"
    ]
    with pytest.raises(ValueError, match="rows.jsonl, row 1: .*leave out `strict` to go on without such rows"):
        convert(source, tmp_path / "strict", strict=True)


def test_damage_to_files_is_counted_and_listed(source, tmp_path):
    lines = [json.dumps(row(number)) for number in range(4)]
    half = lines[1][:-9]
    latin = json.dumps(row(5, chosen="caf\xe9"), ensure_ascii=False).encode("latin-1")
    (source / "rows.jsonl").write_bytes("\n".join([lines[0], half, ""]).encode() + latin + f"\n{lines[2]}\n".encode())
    summary = convert(source, tmp_path / "out")
    assert chosen(load_preferences(tmp_path / "out")) == ["A 0.", "A 2."]
    assert summary["read"] == 4 and summary["bad"] == {"no JSON": 1, "not text in UTF-8": 1}
    assert [entry["row"] for entry in listed(tmp_path / "out")] == [1, 2]
    with pytest.raises(ValueError, match="line 2: no JSON"):
        convert(source, tmp_path / "strict", strict=True)


def test_a_truncated_parquet_file_among_others(source, tmp_path):
    for name in ("a", "b"):
        rows = [row(number, image={"bytes": picture(number), "path": None}) for number in range(3)]
        pq.write_table(pa.Table.from_pylist(rows), source / f"{name}.parquet")
    content = (source / "a.parquet").read_bytes()
    (source / "a.parquet").write_bytes(content[:-100])
    summary = convert(source, tmp_path / "out")
    assert chosen(load_preferences(tmp_path / "out")) == ["A 0.", "A 1.", "A 2."]
    assert (
        sum(summary["bad"].values()) == 1
        and "a.parquet is no intact parquet file" in listed(tmp_path / "out")[0]["reason"]
    )


def test_no_row_left_says_why_and_what_helps(source, tmp_path):
    write_rows(source, [row(1, image="gone.png"), row(1, image="lost.png"), row(1, chosen="")])
    with pytest.raises(
        ValueError, match="No row is left of 3: 2 Image file … does not exist, 1 `chosen` is empty; "
    ) as e:
        convert(source, tmp_path / "out")
    assert "pass the folder of the images as `image_folder`" in str(e.value)
    assert re.search(r"The first: .*rows.jsonl, row 0: Image file .*gone.png.* All are in .*bad_rows", str(e.value))
    assert len(listed(tmp_path / "out")) == 3


def pairs_of(stored):
    if stored.get("video"):
        raise LeftOut("video")
    if stored["scores"][0] == stored["scores"][1]:
        raise LeftOut("tie")
    return [
        {
            "images": [stored["image"]],
            "prompt": "What?",
            "chosen": "A.",
            "rejected": f"B {number}.",
            "chosen_rating": a,
        }
        | {"rejected_rating": b}
        for number, (a, b) in enumerate([stored["scores"], stored["scores"][::-1]])
    ]


def test_what_a_converter_leaves_out_and_what_is_not_wanted(source, tmp_path):
    scores = [(3, 1), (2, 2), (5, 1), (1, 1), (2, 2)]
    rows = [{"image": f"{number}.png", "scores": pair} for number, pair in enumerate(scores)] + [{"video": "a.mp4"}]
    write_rows(source, rows)
    summary = convert(source, tmp_path / "out", converter=pairs_of, row_filter=RowFilter(min_rating_gap=3.0))
    assert load_preferences(tmp_path / "out")["row_id"][:] == ["2-0"]
    assert summary["left_out"] == {"tie": 3, "video": 1}
    assert summary["not_wanted"] == {"ratings differ by less than 3": 3}
    assert [(entry["row"], entry["reason"]) for entry in listed(tmp_path / "out")] == [
        (1, "tie"),
        (3, "tie"),
        (4, "tie"),
        (5, "video"),
    ]
    with pytest.raises(ValueError, match="row 1: left out, tie. Correct it, or leave out `strict`"):
        convert(source, tmp_path / "strict", converter=pairs_of, strict=True)


def test_a_killed_conversion_goes_on_where_it_was(source, tmp_path, monkeypatch):
    write_rows(source, [row(number) for number in range(10)] + [row(3, image="half.png"), row(11)])
    (source / "half.png").write_bytes(picture(3, (300, 200))[:4000])
    convert(source, tmp_path / "whole")
    checked, made = ConvertedRows.checked, []

    def killed(self, items):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(items[0].index)
        return checked(self, items)

    monkeypatch.setattr(ConvertedRows, "checked", killed)
    with pytest.raises(KeyboardInterrupt, match="2 shards of this process are finished"):
        convert(source, tmp_path / "out")
    made.clear()
    summary = convert(source, tmp_path / "out")
    assert made == [8]
    assert contents(tmp_path / "out").keys() == contents(tmp_path / "whole").keys()
    for name, content in contents(tmp_path / "whole").items():
        if name != "README.md":
            assert (tmp_path / "out" / name).read_bytes() == content, name
    assert sum(summary["bad"].values()) == len(listed(tmp_path / "out")) == 1


def test_a_folder_of_other_rows_or_settings_is_refused(source, tmp_path):
    write_rows(source, [row(number) for number in range(6)])
    convert(source, tmp_path / "out", {"convert": {"max_rows": 6}})
    with pytest.raises(ValueError, match="other settings: `convert.max_rows` is 6 there and 5 here"):
        convert(source, tmp_path / "out", {"convert": {"max_rows": 5}})
    write_rows(source, [row(number, chosen="C.") for number in range(6)])
    with pytest.raises(ValueError, match="was made from other rows"):
        convert(source, tmp_path / "out", {"convert": {"max_rows": 6}})
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "README.md").write_text("mine")
    with pytest.raises(ValueError, match="holds a README.md of another origin"):
        convert(source, tmp_path / "other")


def test_the_splits_share_no_image_and_are_the_same_in_every_run(source, tmp_path):
    rows = [row(number % 20, chosen=f"C {number}.") for number in range(60)]
    rows += [{**row(0, chosen="both"), "image": [f"{number}.png" for number in range(20)], "prompt": "What?"}]
    write_rows(source, rows)
    summary = convert(source, tmp_path / "out", test_share=0.3)
    images, texts = {}, []
    for split in ("train", "test"):
        dataset = load_preferences(tmp_path / "out", split=split)
        assert len(dataset) == summary["written"][split] > 0
        images[split] = {image.tobytes() for shown in dataset for image in shown["images"]}
        texts += chosen(dataset)
    assert not images["train"] & images["test"] and len(images["train"] | images["test"]) == 20
    assert sorted([*texts, "both"]) == sorted(item["chosen"] for item in rows)
    assert summary["left_out"] == {"images on both sides of the split": 1}
    assert [entry["row"] for entry in listed(tmp_path / "out")] == [60]
    write_rows(source, rows[:30][::-1])
    convert(source, tmp_path / "half", test_share=0.3)
    assert {*chosen(load_preferences(tmp_path / "half", split="test"))} <= {
        *chosen(load_preferences(tmp_path / "out", split="test"))
    }
    hub = load_dataset(str(tmp_path / "out"))
    assert {name: len(split) for name, split in hub.items()} == summary["written"]
    with pytest.raises(ValueError, match="has no split 'validation', only train, test"):
        load_preferences(tmp_path / "out", split="validation")


def test_only_some_of_the_rows(source, tmp_path):
    write_rows(source, [row(number) for number in range(12)])
    wanted = RowFilter({"source": ("coco",)})
    summary = convert(source, tmp_path / "out", row_filter=wanted, positions=[0, 2, 5])
    assert chosen(load_preferences(tmp_path / "out")) == ["A 1.", "A 5.", "A 11."]
    summary = convert(source, tmp_path / "first", row_filter=wanted, positions=range(2))
    assert chosen(load_preferences(tmp_path / "first")) == ["A 1.", "A 3."]
    assert summary["read"] == 4  # no further than needed


def test_a_column_of_several_types_becomes_text(source, tmp_path):
    idx = [1, "a", None, 2.5, {"b": 1}, 3, 4, 5, 6]
    write_rows(source, [row(number, idx=value) for number, value in enumerate(idx)])
    convert(source, tmp_path / "out", shard_size=3)
    assert load_preferences(tmp_path / "out")["idx"][:] == ["1", "a", None, "2.5", '{"b": 1}', "3", "4", "5", "6"]


def test_an_image_of_several_rows_is_decoded_once_or_not_at_all(source, tmp_path, monkeypatch):
    from trl_mm.data import conversion

    opened, open_image = [], conversion.open_image
    monkeypatch.setattr(conversion, "open_image", lambda image: opened.append(1) or open_image(image))
    write_rows(source, [row(number % 2) for number in range(8)])
    convert(source, tmp_path / "out", shard_size=8)
    assert len(opened) == 2
    (source / "0.png").write_bytes(b"<html>")
    assert convert(source, tmp_path / "unchecked", check_images=False)["written"] == {"train": 8}
    assert len(opened) == 2
