"""Converters that make several rows of one, or leave rows out: from files, from memory and from streams."""

import json
import logging

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from support.tiny import tiny_image

from trl_mm.data.converters.left_out import LeftOut
from trl_mm.data.loading import load_preferences, prepare_preferences
from trl_mm.data.shards import read_left_out, write_shards
from trl_mm.data.streaming import stream_preferences


def pairs_of(row):
    if not row["answers"]:
        raise LeftOut("fewer than two answers")
    if len({*row["answers"]}) == 1:
        raise LeftOut("tie")
    first, *others = row["answers"]
    return [{"image": row["image"], "prompt": "What?", "chosen": first, "rejected": other} for other in others]


ROWS = [
    {"image": "a.png", "answers": ["A.", "B.", "C."]},
    {"image": "a.png", "answers": ["A.", "A."]},
    {"image": "a.png", "answers": ["D.", "E."]},
    {"image": "a.png", "answers": []},
    {"image": "gone.png", "answers": ["F.", "G."]},
    {"image": "a.png", "answers": ["H.", "H."]},
]
MADE = [("0-0", "A.", "B."), ("0-1", "A.", "C."), ("2", "D.", "E.")]
LISTED = [(1, "tie"), (3, "fewer than two answers"), (4, "gone.png"), (5, "tie")]


@pytest.fixture
def folder(tmp_path):
    tiny_image().save(tmp_path / "a.png")
    return tmp_path


def as_jsonl(folder):
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return folder / "rows.jsonl"


def as_parquet(folder):
    pq.write_table(pa.Table.from_pylist(ROWS), folder / "rows.parquet")
    return folder / "rows.parquet"


def pairs(rows):
    return [(row["row_id"], row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in rows]


def listed(file):
    return [(row["row"], row["reason"]) for row in map(json.loads, file.read_text().splitlines())]


def assert_listed(rows):
    assert len(rows) == len(LISTED)
    assert all(row == at and wanted in reason for (row, reason), (at, wanted) in zip(rows, LISTED, strict=True))


@pytest.mark.parametrize("write", [as_jsonl, as_parquet])
def test_rows_of_files_are_counted_by_reason_and_listed(folder, write, caplog):
    file = write(folder)
    with caplog.at_level(logging.WARNING):
        dataset = load_preferences(file, converter=pairs_of, on_bad_image="skip")
    assert pairs(dataset) == MADE
    assert "Left out 3 of 6 rows: 2 tie, 1 fewer than two answers. Listed in " in caplog.text
    assert "1 of 6 rows skipped: missing or undecodable images" in caplog.text
    assert_listed(listed(folder / "bad_rows.jsonl"))


def test_leaving_out_is_no_error_where_a_bad_image_is_one(folder):
    file = as_jsonl(folder)
    with pytest.raises(ValueError, match="row 4: .*gone.png"):
        load_preferences(file, converter=pairs_of)
    tiny_image().save(folder / "gone.png")
    assert len(load_preferences(file, converter=pairs_of)) == 4
    assert [reason for _, reason in listed(folder / "bad_rows.jsonl")] == ["tie", "fewer than two answers", "tie"]


def test_rows_in_memory_and_a_dataset(folder):
    for rows in (ROWS, Dataset.from_list(ROWS)):
        dataset = prepare_preferences(rows, converter=pairs_of, image_folder=folder, on_bad_image="skip")
        assert pairs(dataset) == MADE


def test_a_list_of_an_earlier_run_is_replaced(folder):
    file = as_jsonl(folder)
    load_preferences(file, converter=pairs_of, on_bad_image="skip")
    file.write_text(json.dumps(ROWS[0]) + "\n")
    load_preferences(file, converter=pairs_of)
    assert (folder / "bad_rows.jsonl").read_text() == ""


def test_no_row_left_says_why(folder):
    with pytest.raises(ValueError, match="no rows left of 2. Check the data. The first: tie"):
        prepare_preferences([ROWS[1], ROWS[5]], converter=pairs_of)


@pytest.mark.parametrize("write", [as_jsonl, as_parquet])
def test_a_stream_of_datasets(folder, write, caplog):
    with caplog.at_level(logging.INFO):
        stream = load_preferences(write(folder), converter=pairs_of, on_bad_image="skip", streaming=True)
        assert pairs(stream) == MADE
    assert "row 1 is left out: tie" in caplog.text


def test_a_stream_where_nothing_is_left_of_a_batch(folder):
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [ROWS[1]] * 40 + [ROWS[0]]))
    assert len(list(load_preferences(folder / "rows.jsonl", converter=pairs_of, streaming=True))) == 2


@pytest.mark.parametrize("write", [as_jsonl, as_parquet])
def test_a_row_stream_goes_into_shards(folder, write):
    stream = stream_preferences(write(folder), converter=pairs_of, on_bad_image="skip")
    assert [(item.index, item.row is None, item.is_left_out) for item in stream] == [
        (0, False, False),
        (0, False, False),
        (1, True, True),
        (2, False, False),
        (3, True, True),
        (4, True, False),
        (5, True, True),
    ]

    def transform(items):
        stored, _, left_out = stream.decode(items)
        return stored, left_out

    write_shards(folder / "out", stream, transform, {}, shard_size=2, digest=stream.digest)
    assert pairs(load_preferences(folder / "out")) == MADE
    assert_listed([(row["row"], row["reason"]) for row in read_left_out(folder / "out")])
