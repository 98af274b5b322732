"""Sources are read past what is damaged in them, and every row keeps its place."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, Image

from trl_mm.data import source_rows
from trl_mm.data.json_rows import Damage, JSONRows
from trl_mm.data.source_rows import SourceRows
from trl_mm.data.sources import Source


ROWS = [{"n": number, "text": f"row {number}"} for number in range(6)]


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def read(source):
    """Index, row or reason, and place of each value."""
    return [
        (index, value.reason if isinstance(value, Damage) else value, source.locate(index)) for index, value in source
    ]


def test_half_a_line_costs_itself(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text(lines(ROWS[:2]) + '{"n": 9, "te\n' + "\n" + lines(ROWS[2:4]))
    found = read(SourceRows(file))
    assert [value for _, value, _ in found[:2]] == ROWS[:2] and [value for _, value, _ in found[3:]] == ROWS[2:4]
    assert found[2][1].startswith(f"{file}, line 3: no JSON (") and found[2][2] == (str(file), 2)
    assert [place for *_, place in found] == [(str(file), number) for number in range(5)]
    assert read(SourceRows(file)) == found


def test_a_line_that_is_not_utf_8_costs_itself(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_bytes(lines(ROWS[:1]).encode() + '{"text": "caf\xe9"}\n'.encode("latin-1") + '{"text": "é"}\n'.encode())
    found = read(SourceRows(file))
    assert found[1][1] == f"{file}, line 2: not text in UTF-8. Convert it." and found[2][1] == {"text": "é"}


@pytest.mark.parametrize("indent", [None, 2])
def test_a_list_with_a_comma_before_its_end_is_read_to_it(tmp_path, indent):
    file = tmp_path / "a.json"
    file.write_text(json.dumps(ROWS, indent=indent).rstrip("]\n") + ",\n]\n")
    found = read(SourceRows(file))
    assert [value for _, value, _ in found[:-1]] == ROWS
    assert "no JSON (Comma before the end: line" in found[-1][1] and found[-1][2] == (str(file), 6)


def test_a_list_that_is_cut_off_is_read_up_to_there_and_other_files_too(tmp_path):
    text = json.dumps(ROWS, indent=1)
    (tmp_path / "a.json").write_text(text[: text.index("row 4")])
    (tmp_path / "b.json").write_text(json.dumps(ROWS[:1]))
    found = read(SourceRows(tmp_path))
    assert [value for _, value, _ in found[:4]] == ROWS[:4] and found[5][1] == ROWS[0]
    assert "a.json, line 20: no JSON" in found[4][1] and "The rest of the file is not read." in found[4][1]
    assert found[5][0] == 5 and found[5][2] == (str(tmp_path / "b.json"), 0)


def test_a_row_of_a_list_that_is_not_utf_8_costs_itself(tmp_path):
    file = tmp_path / "a.json"
    file.write_bytes('[{"n": 1},\n {"text": "caf\xe9"},\n {"n": 2}]'.encode("latin-1"))
    found = read(SourceRows(file))
    assert [value for _, value, _ in found] == [{"n": 1}, f"{file}, line 2: not text in UTF-8. Convert it.", {"n": 2}]


@pytest.mark.parametrize("text", ["<html>\n<body>\n404 Not Found" + "\n<br>" * 100, json.dumps({"a": ROWS}, indent=1)])
def test_a_file_that_has_no_lines_of_json_is_given_up(tmp_path, text):
    (tmp_path / "a.jsonl").write_text(text)
    (tmp_path / "b.jsonl").write_text(lines(ROWS[:1]))
    found = read(SourceRows(tmp_path))
    assert len(found) == 10 and found[-1][1] == ROWS[0]
    assert "line 8: nothing here is a line of JSON. The rest of the file is not read." in found[8][1]


def test_a_file_that_begins_badly_is_read_on(tmp_path):
    (tmp_path / "a.jsonl").write_text("{\n" * 7 + lines(ROWS) + "{\n" * 9)
    assert len(read(SourceRows(tmp_path))) == 22


def test_a_hub_that_breaks_off_is_an_error_with_the_cure(monkeypatch):
    def rows():
        yield ROWS[0]
        raise ConnectionResetError("reset by peer")

    monkeypatch.setattr(source_rows, "open_stream", lambda *args: Source(rows(), files=("me/pairs",)))
    source = SourceRows("me/pairs")
    with pytest.raises(OSError, match="^me/pairs: the Hub stopped after 1 rows: reset by peer. Run the same command"):
        list(source)


def test_reading_for_training_stops_there(tmp_path):
    file = tmp_path / "a.json"
    file.write_text("[1,]")
    with pytest.raises(ValueError, match="a.json, line 1: no JSON"):
        list(JSONRows([file]))
    file.write_bytes(b'"caf\xe9"\n')
    with pytest.raises(ValueError, match="not text in UTF-8"):
        list(JSONRows([file]))


def write_parquet(file, rows, **options):
    pq.write_table(pa.Table.from_pylist(rows), file, **options)


def test_a_truncated_parquet_file_costs_itself(tmp_path):
    for name in "abc":
        write_parquet(tmp_path / f"{name}.parquet", ROWS[:2])
    content = (tmp_path / "b.parquet").read_bytes()
    (tmp_path / "b.parquet").write_bytes(content[: len(content) // 2])
    source = SourceRows(tmp_path)
    assert source.num_rows == 4
    found = read(source)
    assert [index for index, *_ in found] == [0, 1, 2, 3, 4]
    assert "b.parquet is no intact parquet file: " in found[2][1]
    assert found[3][1:] == (ROWS[0], (str(tmp_path / "c.parquet"), 0))


def test_a_damaged_page_costs_its_row_group(tmp_path):
    file = tmp_path / "a.parquet"
    rows = [{"text": f"[{number:09d}]" * 40} for number in range(300)]
    options = {"row_group_size": 100, "compression": "none", "use_dictionary": False, "write_page_checksum": True}
    write_parquet(file, rows, **options)
    content = bytearray(file.read_bytes())
    place = content.index(b"[000000150]")
    content[place : place + 11] = b"[999999999]"
    file.write_bytes(content)
    found = read(SourceRows(file))
    good = [value for _, value, _ in found if isinstance(value, dict)]
    assert good[:100] == rows[:100] and good[-100:] == rows[200:]
    assert not any("999999999" in value["text"] for value in good)
    (reason,) = [value for _, value, _ in found if isinstance(value, str)]
    assert "row group 1: 100 rows cannot be read: " in reason
    assert found[-1][2] == (str(file), 299)


def test_images_are_not_decoded(tmp_path):
    images = [{"bytes": b"<html>", "path": "a.png"}]
    Dataset.from_dict({"image": images}).cast_column("image", Image()).to_parquet(tmp_path / "a.parquet")
    assert [value for _, value in SourceRows(tmp_path)] == [{"image": images[0]}]
    Dataset.from_dict({"image": images}).cast_column("image", Image()).save_to_disk(tmp_path / "saved")
    assert [value for _, value in SourceRows(tmp_path / "saved")] == [{"image": images[0]}]


def test_the_first_rows_are_the_first_good_ones(tmp_path):
    (tmp_path / "a.jsonl").write_text("{\n3\n" + lines(ROWS))
    assert SourceRows(tmp_path).first(2) == ROWS[:2]


def test_what_is_not_there_is_an_error_at_once(tmp_path):
    with pytest.raises(FileNotFoundError, match="is no local file or folder"):
        SourceRows(tmp_path / "a.jsonl")
    (tmp_path / "test.jsonl").write_text(lines(ROWS))
    with pytest.raises(ValueError, match="has no split 'train', only test"):
        SourceRows(tmp_path)
    assert len(list(SourceRows(tmp_path, "test"))) == 6


def test_one_object_of_several_lines_is_refused_with_what_it_is(tmp_path):
    (tmp_path / "meta.json").write_text(json.dumps({"a": {}}, indent=4))
    with pytest.raises(ValueError, match="is one JSON object, not rows"):
        SourceRows(tmp_path / "meta.json").check()


@pytest.mark.parametrize("text", ['{"a": 1}\n{', '[{"a": 1}]', "<html>", "{\n"])
def test_other_files_are_left_to_their_lines(tmp_path, text):
    (tmp_path / "rows.json").write_text(text)
    SourceRows(tmp_path / "rows.json").check()
