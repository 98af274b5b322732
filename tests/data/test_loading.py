import io
import json
import logging
import os
import re
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import datasets
import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, Image, List

from trl_mm.data import loading
from trl_mm.data.loading import load_preferences, prepare_preferences
from trl_mm.data.shards import write_shards
from trl_mm.data.streaming import stream_preferences


SIZE = (6, 5)
PROMPT_ROW = ("images", "prompt")


def picture(index):
    return PIL.Image.fromarray(np.full((SIZE[1], SIZE[0], 3), index, np.uint8))


def png(index):
    buffer = io.BytesIO()
    picture(index).save(buffer, "PNG")
    return buffer.getvalue()


def truncated():
    noise, buffer = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8), io.BytesIO()
    PIL.Image.fromarray(noise).save(buffer, "JPEG")
    return buffer.getvalue()[: buffer.tell() // 2]


def string_row(index, **columns):
    return {"images": [f"images/{index}.png"], "prompt": "What?", "chosen": f"{index}.", "rejected": "B.", **columns}


def messages(role, text):
    return [{"role": role, "content": text}]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    for index in range(5):
        (tmp_path / "images" / f"{index}.png").write_bytes(png(index))
    return tmp_path


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def pixel(row):
    return row["images"][0].convert("RGB").getpixel((0, 0))[0]


def assert_rows(dataset, indices):
    assert dataset.features["images"] == List(Image())
    assert [pixel(row) for row in dataset] == list(indices)
    assert [row["chosen"] for row in dataset] == [messages("assistant", f"{index}.") for index in indices]
    assert dataset[0]["prompt"] == messages("user", "What?")
    assert dataset[0]["rejected"] == messages("assistant", "B.")


def test_jsonl_with_an_image_folder_beside_it(folder):
    write_jsonl(folder / "pairs.jsonl", [string_row(index, source="x") for index in range(3)])
    for name in (folder / "pairs.jsonl", str(folder)):
        dataset = load_preferences(name)
        assert_rows(dataset, range(3))
        assert dataset["row_id"][:] == ["0", "1", "2"] and dataset["source"][:] == ["x"] * 3


def test_json_list_and_byte_order_mark(folder):
    (folder / "pairs.json").write_text("\ufeff" + json.dumps([string_row(0), string_row(1)], indent=1))
    assert_rows(load_preferences(folder / "pairs.json"), range(2))


def test_parquet_of_strings_and_paths_and_of_embedded_images(folder):
    pq.write_table(pa.Table.from_pylist([string_row(index) for index in range(3)]), folder / "paths.parquet")
    assert_rows(load_preferences(folder / "paths.parquet"), range(3))
    rows = [string_row(index, images=[{"bytes": png(index), "path": "x.png"}]) for index in range(3)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "bytes.parquet")
    assert_rows(load_preferences(folder / "bytes.parquet"), range(3))


def test_folder_of_shards_is_taken_as_it_is(folder):
    source = prepare_preferences([string_row(index) for index in range(5)], image_folder=folder)
    write_shards(folder / "out", source, lambda rows: rows, {}, shard_size=2)
    dataset = load_preferences(folder / "out")
    assert_rows(dataset, range(5))
    # A dataset in the format is not copied: its file is the one that `datasets` made of the shards.
    assert all("parquet" in file["filename"] for file in dataset.cache_files) and dataset.cache_files
    assert dataset.with_format("arrow")[0:1]["images"].to_pylist()[0][0]["bytes"] == png(0)


@pytest.mark.parametrize("content", [{"complete": False}, {"complete": True, "shards": {"shard-00001.parquet": 1}}])
def test_unfinished_shards_are_refused(folder, content):
    pq.write_table(pa.Table.from_pylist([string_row(0)]), folder / "shard-00000.parquet")
    manifest = {"settings": {}, "num_source_rows": 2, "shard_size": 1, **content}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="is not complete. Run the command"):
        load_preferences(folder)


def test_cache_follows_a_file_that_changes(folder):
    for index in range(2):
        pq.write_table(pa.Table.from_pylist([string_row(index)]), folder / "a.parquet")
        os.utime(folder / "a.parquet", (index, index))
        assert_rows(load_preferences(folder), [index])


def test_images_in_every_form_and_text_only_rows():
    rows = [string_row(0, images=[picture(0)]), string_row(1, images=[png(1)]), string_row(2, images=None)]
    rows += [{**string_row(3), "images": [picture(3), {"bytes": png(4), "path": None}]}]
    dataset = prepare_preferences(rows)
    assert dataset.features["images"] == List(Image())
    assert [len(row["images"]) for row in dataset] == [1, 1, 0, 2]
    assert [pixel(dataset[index]) for index in (0, 1, 3)] == [0, 1, 3]


def test_dataset_with_pil_images_and_an_image_column():
    rows = [{**string_row(index), "image": picture(index)} for index in range(3)]
    dataset = Dataset.from_list(rows).remove_columns("images")
    assert_rows(prepare_preferences(dataset), range(3))
    assert_rows(prepare_preferences(prepare_preferences(dataset).select([2, 0])), [2, 0])


def test_dataset_with_a_transform_of_the_users():
    dataset = Dataset.from_dict({"index": [0, 1]})
    dataset.set_transform(lambda batch: {"images": [[picture(i)] for i in batch["index"]], "prompt": ["?"]})
    result = prepare_preferences(dataset, needs=PROMPT_ROW)
    assert [pixel(row) for row in result] == [0, 1]


def test_paths_are_kept_and_bytes_are_not_encoded_again(folder):
    buffer = io.BytesIO()
    picture(9).save(buffer, "JPEG")
    rows = [string_row(0), string_row(1, images=[{"bytes": buffer.getvalue(), "path": None}])]
    stored = prepare_preferences(rows, image_folder=folder).with_format("arrow")[:]["images"].to_pylist()
    assert stored == [
        [{"bytes": None, "path": str(folder / "images" / "0.png")}],
        [{"bytes": buffer.getvalue(), "path": None}],
    ]


def test_a_file_of_the_same_name_in_the_working_directory_is_not_taken_for_the_bytes(folder, monkeypatch):
    monkeypatch.chdir(folder / "images")
    rows = [string_row(1, images=[{"bytes": png(1), "path": "0.png"}])]
    assert_rows(prepare_preferences(rows), [1])
    pq.write_table(pa.Table.from_pylist(rows), folder / "x.parquet")
    assert_rows(load_preferences(folder / "x.parquet"), [1])


@pytest.mark.parametrize("stored", [False, True])
def test_images_are_decoded_only_for_the_check_and_when_read(folder, monkeypatch, stored):
    rows = [string_row(index % 2) for index in range(6)]
    rows = Dataset.from_list(rows) if stored else rows
    opened, real_open = [], PIL.Image.open

    def counting_open(source, *args, **kwargs):
        opened.append(os.path.basename(source))
        return real_open(source, *args, **kwargs)

    monkeypatch.setattr(PIL.Image, "open", counting_open)
    # Two threads may both try a file that neither has finished.
    monkeypatch.setattr(loading, "ThreadPoolExecutor", partial(ThreadPoolExecutor, max_workers=1))
    dataset = prepare_preferences(rows, image_folder=folder, check_images=False)
    assert opened == []
    dataset = prepare_preferences(rows, image_folder=folder)
    assert sorted(opened[:2]) == ["0.png", "1.png"], "a file that several rows share is tried once"
    del opened[:]
    assert pixel(dataset[3]) == 1 and set(opened) == {"1.png"}


def test_converter_sees_the_row_as_stored(folder):
    def converter(row):
        assert row["image"]["bytes"] == png(row["idx"])
        return {"images": [row["image"]], "prompt": row["question"], "chosen": f"{row['idx']}.", "rejected": "B."}

    rows = [{"image": {"bytes": png(i), "path": None}, "question": "What?", "idx": i} for i in range(3)]
    features = datasets.Features(image=Image(), question=datasets.Value("string"), idx=datasets.Value("int64"))
    dataset = prepare_preferences(Dataset.from_list(rows, features=features), converter=converter)
    assert_rows(dataset, range(3))
    assert dataset.column_names == ["images", "prompt", "chosen", "rejected", "row_id"]
    assert_rows(prepare_preferences(rows, converter=converter), range(3))


def test_failing_converter_names_row_and_columns(folder):
    write_jsonl(folder / "a.jsonl", [string_row(0), {"text": "x"}])
    with pytest.raises(ValueError, match=r"a.jsonl, row 1: the converter failed with KeyError.*Columns found: text"):
        load_preferences(folder, converter=lambda row: {**row, "prompt": row["prompt"]})


def test_row_ids_are_kept_and_filled_with_the_position():
    rows = [{"images": [], "prompt": "What?", "row_id": row_id} for row_id in (7, None, "x")]
    assert prepare_preferences(rows, needs=PROMPT_ROW)["row_id"][:] == ["7", "1", "x"]


def test_positions_count_skipped_rows_and_go_on_over_files(folder):
    write_jsonl(folder / "a.jsonl", [string_row(0), string_row("gone")])
    write_jsonl(folder / "b.jsonl", [string_row("gone"), string_row(3)])
    dataset = load_preferences(folder, on_bad_image="skip")
    assert dataset["row_id"][:] == ["0", "3"]
    bad = [json.loads(line) for line in (folder / "bad_rows.jsonl").read_text().splitlines()]
    assert [(row["file"], row["row"]) for row in bad] == [(str(folder / "a.jsonl"), 1), (str(folder / "b.jsonl"), 0)]


def test_columns_that_begin_empty_get_their_type_from_later_rows(folder):
    rows = [string_row(0, images=[], note=None, spans=[]) for _ in range(300)]
    rows += [string_row(1, note="x", spans=[1, 2]), {**string_row(2), "late": 0.5}]
    write_jsonl(folder / "a.jsonl", rows)
    dataset = load_preferences(folder)
    assert dataset[300]["note"] == "x" and dataset[300]["spans"] == [1, 2] and dataset[301]["late"] == 0.5
    assert pixel(dataset[301]) == 2
    # Through parquet and a converter, so that the dataset is written in batches.
    dataset.to_parquet(folder / "a.parquet")
    again = load_preferences(folder / "a.parquet", converter=lambda row: {**row, "extra": row["note"]})
    assert again[300]["extra"] == "x" and pixel(again[301]) == 2 and len(again) == 302


@pytest.mark.parametrize("stored", [False, True])
def test_strings_and_parts_in_one_dataset_become_parts(folder, stored):
    rows = [string_row(0), string_row(1, images=["images/1.png"] * 2, prompt="Is <image> like <image>?")]
    rows = Dataset.from_list(rows) if stored else rows
    first, second = prepare_preferences(rows, image_folder=folder)
    assert [part["type"] for part in first["prompt"][0]["content"]] == ["image", "text"]
    assert [part["type"] for part in second["prompt"][0]["content"]] == ["text", "image"] * 2 + ["text"]
    assert first["chosen"] == messages("assistant", [{"type": "text", "text": "0."}])


def test_column_of_mixed_types_is_named():
    rows = [{"images": [], "prompt": "What?", "meta": meta} for meta in ({"a": 1}, "x")]
    dataset = Dataset.from_list(rows, on_mixed_types="use_json")
    with pytest.raises(ValueError, match="Column `meta` cannot be stored.*one type in all rows, or remove it"):
        prepare_preferences(dataset, needs=PROMPT_ROW)


BAD = {
    "missing file": (string_row("gone"), r"Image file '.*images/gone.png' does not exist.*Correct the path"),
    "truncated": (string_row("bad"), r"Image '.*images/bad.png' cannot be decoded.*Replace it"),
    "outside": (string_row(0, images=["../secret.png"]), "leaves the image folder.*image_folder"),
    "misnamed": (
        {"images": [], "prompt": "?", "chosen": "A.", "reject": "B."},
        "Found: .*Needed: .*Is `reject` meant",
    ),
    "empty": (string_row(0, chosen=""), "`chosen` is empty"),
    "placeholders": (string_row(0, prompt="<image><image>?"), r"placeholders in `prompt` \(2\).*images \(1\)"),
    "both": (string_row(0, image="images/0.png"), "both `image` and `images`"),
    "no row": ("text", "a row must be an object"),
    "no image": (string_row(0, images=[3]), "An image must be a path"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_row_names_file_row_and_cure(folder, kind):
    row, message = BAD[kind]
    (folder / "images" / "bad.png").write_bytes(truncated())
    write_jsonl(folder / "a.jsonl", [string_row(0)])
    write_jsonl(folder / "b.jsonl", [string_row(0), string_row(1), row, string_row("also gone")])
    with pytest.raises(ValueError, match=rf"(?s)^{folder}/b.jsonl, row 2: .*{message}"):
        load_preferences(folder)


def test_truncated_image_passes_only_without_the_check(folder):
    (folder / "images" / "0.png").write_bytes(truncated())
    write_jsonl(folder / "a.jsonl", [string_row(0)])
    with pytest.raises(ValueError, match=r"a.jsonl, row 0: Image '.*0.png' cannot be decoded: .*truncated"):
        load_preferences(folder)
    assert len(load_preferences(folder, check_images=False)) == 1


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_bad_images_are_skipped_counted_and_listed(folder, caplog, suffix):
    (folder / "images" / "bad.png").write_bytes(truncated())
    rows = [string_row(index) for index in (0, "gone", 1, "bad")]
    if suffix == "jsonl":
        write_jsonl(folder / "a.jsonl", rows)
    else:
        pq.write_table(pa.Table.from_pylist(rows), folder / "a.parquet")
    with caplog.at_level(logging.WARNING):
        assert_rows(load_preferences(folder, on_bad_image="skip"), [0, 1])
    assert "2 of 4 rows skipped" in caplog.text and "bad_rows.jsonl" in caplog.text
    listed = [json.loads(line) for line in (folder / "bad_rows.jsonl").read_text().splitlines()]
    assert [(row["row"], row["file"]) for row in listed] == [(1, f"{folder}/a.{suffix}"), (3, f"{folder}/a.{suffix}")]
    assert "gone.png' does not exist" in listed[0]["reason"] and "bad.png' cannot be decoded" in listed[1]["reason"]
    assert "on_bad_image" not in listed[0]["reason"]
    # Repaired: the list of bad rows is emptied, and is never taken for data.
    for name in ("gone", "bad"):
        (folder / "images" / f"{name}.png").write_bytes(png(4))
    assert len(load_preferences(folder, on_bad_image="skip")) == 4
    assert (folder / "bad_rows.jsonl").read_text() == ""


def test_bad_images_are_skipped_in_a_dataset_that_is_in_the_format(folder):
    dataset = prepare_preferences(Dataset.from_list([string_row(index) for index in range(3)]), image_folder=folder)
    (folder / "images" / "1.png").unlink()
    assert_rows(prepare_preferences(dataset, on_bad_image="skip"), [0, 2])


def test_list_of_bad_rows_goes_where_it_is_asked_for(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other") / "skipped.jsonl"
    write_jsonl(folder / "a.jsonl", [string_row(0), string_row("gone")])
    load_preferences(folder, on_bad_image="skip", bad_rows_file=other)
    assert json.loads(other.read_text())["row"] == 1 and not (folder / "bad_rows.jsonl").exists()
    with pytest.raises(ValueError, match="on_bad_image='skip'"):
        load_preferences(folder)


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_bad_images_are_kept(folder, suffix):
    (folder / "images" / "bad.png").write_bytes(truncated())
    rows = [string_row(index) for index in (0, "gone", "bad")]
    if suffix == "jsonl":
        write_jsonl(folder / "a.jsonl", rows)
    else:
        pq.write_table(pa.Table.from_pylist(rows), folder / "a.parquet")
    dataset = load_preferences(folder, on_bad_image="keep")
    assert_rows(dataset.select([0]), [0])
    stored = [row["images"][0] for row in dataset.cast_column("images", List(Image(decode=False)))]
    assert stored[1] == {"bytes": b"", "path": "images/gone.png"}
    assert stored[2] == {"bytes": None, "path": str(folder / "images" / "bad.png")}
    assert not (folder / "bad_rows.jsonl").exists()
    with pytest.raises(ValueError, match="`on_bad_image='keep'` needs `streaming=False`"):
        load_preferences(folder, on_bad_image="keep", streaming=True)


@pytest.mark.parametrize("on_bad_image", ["skip", "keep"])
def test_path_outside_is_never_skipped(folder, on_bad_image):
    write_jsonl(folder / "a.jsonl", [string_row(0), string_row(0, images=["/etc/passwd"])])
    with pytest.raises(ValueError, match="row 1: .*leaves the image folder"):
        load_preferences(folder, on_bad_image=on_bad_image)


def test_no_rows_left_is_an_error(folder):
    write_jsonl(folder / "a.jsonl", [string_row("gone")])
    with pytest.raises(ValueError, match="a.jsonl has no rows left of 1"):
        load_preferences(folder, on_bad_image="skip")
    (folder / "a.jsonl").write_text("\n")
    with pytest.raises(ValueError, match="a.jsonl has no rows left of 0"):
        load_preferences(folder)
    with pytest.raises(ValueError, match="The dataset has no rows"):
        prepare_preferences([])


def test_image_folder_can_be_another_one(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("rows")
    write_jsonl(other / "a.jsonl", [string_row(0)])
    with pytest.raises(ValueError, match="does not exist"):
        load_preferences(other)
    assert_rows(load_preferences(other, image_folder=folder), [0])


@pytest.mark.parametrize(
    ("text", "line"),
    [('{"a": 1}\n\n{"a": \n', 3), ('[{"a": 1},\n{"a"]', 2), ("[" * 100_000, 1), ("{", 1)],
    ids=["lines", "list", "deep", "open"],
)
def test_broken_json_names_the_line(folder, text, line):
    (folder / "a.json").write_text(text)
    with pytest.raises(ValueError, match=rf"a.json, line {line}: no JSON .*one object per line"):
        load_preferences(folder / "a.json")


def test_broken_files_are_named(folder):
    (folder / "a.jsonl").write_bytes(b'{"prompt": "\xff"}')
    with pytest.raises(ValueError, match="a.jsonl is not text in UTF-8"):
        load_preferences(folder / "a.jsonl")
    (folder / "a.parquet").write_bytes(b"PAR1 no parquet PAR1")
    with pytest.raises(ValueError, match="a.parquet is no intact parquet file"):
        load_preferences(folder)
    (folder / "a.csv").write_text("prompt")
    with pytest.raises(ValueError, match="a.csv must be a .parquet, .jsonl or .json file"):
        load_preferences(folder / "a.csv")
    with pytest.raises(FileNotFoundError, match="images holds no .parquet, .jsonl or .json file"):
        load_preferences(folder / "images")
    with pytest.raises(FileNotFoundError, match="`.*/gone` is no local file or folder"):
        load_preferences(folder / "gone")


def test_splits_are_found_by_the_names_of_files(folder):
    for name, index in (("train-00000-of-00001", 0), ("test_images", 1), ("more", 2)):
        write_jsonl(folder / f"{name}.jsonl", [string_row(index)])
    assert_rows(load_preferences(folder), [0])
    assert_rows(load_preferences(folder, split="test"), [1])
    with pytest.raises(ValueError, match="has no split 'validation', only more, test, train. Pass one of them"):
        load_preferences(folder, split="validation")
    (folder / "train-00000-of-00001.jsonl").unlink()
    assert_rows(load_preferences(folder), [2])
    with pytest.raises(ValueError, match="has no split 'more', only train, test. Pass"):
        load_preferences(folder, split="more")


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("suffix", ["jsonl", "json", "parquet"])
@pytest.mark.parametrize("split", ["test", "nonsense", "train[:1]", ""])
def test_a_file_has_one_split(folder, suffix, split, streaming):
    file = write_jsonl(folder / f"test.{suffix}", [string_row(0)])
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist([string_row(0)]), file)
    with pytest.raises(ValueError, match=rf"{file} has no split {re.escape(repr(split))}, only train. Leave .*folder"):
        load_preferences(file, split=split, streaming=streaming)
    with pytest.raises(ValueError, match="has no split"):
        stream_preferences(file, split=split)
    assert len(list(load_preferences(file, streaming=streaming))) == 1


def test_splits_in_memory_are_named():
    rows = Dataset.from_list([string_row(0, images=[])])
    with pytest.raises(ValueError, match="several splits: train, test. Pass one, such as"):
        prepare_preferences(datasets.DatasetDict(train=rows, test=rows))


def test_a_split_that_the_hub_does_not_have_is_an_error_of_ours(monkeypatch):
    def load_dataset(*args, **kwargs):
        raise ValueError('Unknown split "test". Should be one of ["train"].')

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(ValueError, match="`some/data` cannot be read from the Hub: Unknown split .*train"):
        load_preferences("some/data", split="test")


def test_names_with_brackets_are_no_patterns(folder):
    (folder / "run[1]").mkdir()
    rows = [string_row(0, images=[{"bytes": png(0), "path": None}])]
    pq.write_table(pa.Table.from_pylist(rows), folder / "run[1]" / "a*.parquet")
    assert_rows(load_preferences(folder / "run[1]"), [0])


def test_wrong_arguments_are_refused(folder):
    write_jsonl(folder / "a.jsonl", [string_row(0)])
    with pytest.raises(ValueError, match="`on_bad_image` must be 'error', 'skip' or 'keep', got 'ignore'"):
        load_preferences(folder, on_bad_image="ignore")
    with pytest.raises(ValueError, match="`trust_remote_code` is not supported"):
        load_preferences("a/b", trust_remote_code=True)
    with pytest.raises(ValueError, match="`revision` would do nothing"):
        load_preferences(folder, revision="main")


def test_hub_datasets_go_through_datasets(folder, monkeypatch):
    calls = []

    def load_dataset(path, **kwargs):
        calls.append((path, kwargs))
        return Dataset.from_list([string_row(0, images=[{"bytes": png(0), "path": None}])])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert_rows(load_preferences("some/data", split="train[:1]", revision="main"), [0])
    assert calls == [("some/data", {"split": "train[:1]", "streaming": False, "revision": "main"})]


def test_hub_dataset_cannot_point_at_local_files(folder, monkeypatch):
    rows = [string_row(0, images=[str(folder / "images" / "0.png")])]
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **kwargs: Dataset.from_list(rows))
    with pytest.raises(ValueError, match="some/data, row 0: .*leaves the image folder"):
        load_preferences("some/data")


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_streaming_checks_rows_as_they_come(folder, caplog, suffix):
    rows = [string_row(index) for index in (0, "gone", *range(1, 5), *range(20))]
    for index in range(5, 20):
        (folder / "images" / f"{index}.png").write_bytes(png(index))
    if suffix == "jsonl":
        write_jsonl(folder / "a.jsonl", rows)
    else:
        pq.write_table(pa.Table.from_pylist(rows), folder / "a.parquet")
    stream = load_preferences(folder, streaming=True, on_bad_image="skip")
    assert isinstance(stream, datasets.IterableDataset)
    with caplog.at_level(logging.WARNING):
        rows = list(stream)
    assert [pixel(row) for row in rows] == [*range(5), *range(20)]
    assert rows[1]["row_id"] == "2" and rows[0]["prompt"] == messages("user", "What?")
    assert "A row is skipped" in caplog.text and "row 1: Image file" in caplog.text
    with pytest.raises(ValueError, match="row 1: Image file .* does not exist"):
        list(load_preferences(folder, streaming=True))


def test_a_stream_names_the_row_of_a_truncated_image(folder, caplog):
    (folder / "images" / "bad.png").write_bytes(truncated())
    write_jsonl(folder / "a.jsonl", [string_row(0), string_row("bad"), string_row(1)])
    with pytest.raises(ValueError, match=r"row 1: Image '.*bad.png' cannot be decoded"):
        list(load_preferences(folder, streaming=True))
    assert len(list(load_preferences(folder, streaming=True, on_bad_image="skip"))) == 2
    assert "row 1: Image" in caplog.text
