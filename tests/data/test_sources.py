import json
import subprocess
import sys

import datasets
import pytest

from trl_mm.data.sources import Source, check_split, local_folder, open_source, open_stream


def write(path, *numbers):
    """Rows with one number each, in the format of the file's name."""
    rows = [{"n": number} for number in numbers]
    if path.suffix == ".parquet":
        datasets.Dataset.from_list(rows).to_parquet(path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def numbers(source):
    return [row["n"] for row in source.rows]


def test_a_row_is_located_in_its_file():
    source = Source([], files=("a", "b", "c", "d"), ends=(2, 2, 5, 6))
    assert [source.locate(index) for index in range(6)] == [
        *[("a", 0), ("a", 1), ("c", 0), ("c", 1), ("c", 2)],
        ("d", 0),
    ]
    assert source.locate(6) == ("d", 1)  # a row too many is one of the last file
    assert Source([], files=("a", "b")).locate(6) == ("a, b", 6)


def test_the_folder_of_what_is_here(tmp_path):
    write(tmp_path / "rows.jsonl", 1)
    assert local_folder(tmp_path) == local_folder(tmp_path / "rows.jsonl") == tmp_path
    assert local_folder(tmp_path / "gone") is None


@pytest.mark.parametrize("suffix", ["jsonl", "json", "parquet"])
@pytest.mark.parametrize("way", ["all", "streaming", "stream"])
def test_rows_of_several_files_come_in_order(tmp_path, suffix, way):
    for name, found in (("train-1", (3, 4, 5)), ("train-0", (1, 2)), ("test", (9,))):
        write(tmp_path / f"{name}.{suffix}", *found)

    def opened(split):
        if way == "stream":
            return open_stream(tmp_path, split, {})
        return open_source(tmp_path, split, way == "streaming", {})

    source = opened("train")
    assert numbers(source) == [1, 2, 3, 4, 5] == numbers(source)
    assert source.folder == tmp_path and source.files == tuple(str(tmp_path / f"train-{n}.{suffix}") for n in (0, 1))
    assert numbers(opened("test")) == [9]
    if way == "all":
        assert source.ends == (2, 5) and source.locate(3) == (str(tmp_path / f"train-1.{suffix}"), 1)


def test_a_stream_of_parquet_stops_at_what_is_damaged(tmp_path):
    write(tmp_path / "train-0.parquet", 1, 2)
    (tmp_path / "train-1.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"train-1.parquet is no intact parquet file"):
        open_stream(tmp_path, "train", {})
    write(tmp_path / "train-1.parquet", *range(1000))
    content = (tmp_path / "train-1.parquet").read_bytes()
    (tmp_path / "train-1.parquet").write_bytes(content[:8] + bytes(64) + content[72:])
    read = iter(open_stream(tmp_path, "train", {}).rows)
    assert [next(read)["n"] for _ in range(2)] == [1, 2]
    with pytest.raises(ValueError, match=r"train-1.parquet, row group 0: 1000 rows cannot be read"):
        list(read)


def test_what_is_left_of_a_stream_of_parquet_does_not_abort_the_process(tmp_path):
    path = tmp_path / "rows.parquet"
    datasets.Dataset.from_dict({"n": range(50_000), "text": ["a" * 500] * 50_000}).to_parquet(path, batch_size=5_000)
    script = f"""
from itertools import islice
from trl_mm.data.sources import open_stream

rows = open_stream({str(path)!r}, "train", {{}}).rows
assert all(len(list(islice(rows, 3))) == 3 for _ in range(8))
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr


def test_parquet_comes_before_text_and_other_files_are_train(tmp_path):
    write(tmp_path / "rows.jsonl", 1)
    assert numbers(open_source(tmp_path, "train", False, {})) == [1]
    write(tmp_path / "rows.parquet", 2)
    assert numbers(open_source(tmp_path, "train", False, {})) == [2]
    write(tmp_path / "test.parquet", 3)
    assert numbers(open_source(tmp_path, "train", False, {})) == [2]
    assert numbers(open_source(tmp_path, "test", False, {})) == [3]


def test_saved_datasets_and_their_splits(tmp_path):
    made = datasets.Dataset.from_list([{"n": 1}, {"n": 2}])
    made.save_to_disk(tmp_path / "one")
    datasets.DatasetDict(train=made, test=made.select([1])).save_to_disk(tmp_path / "splits")
    assert numbers(open_source(tmp_path / "one", "train", False, {})) == [1, 2]
    assert numbers(open_stream(tmp_path / "splits", "test", {})) == [2]
    for name in ("one", "splits"):
        with pytest.raises(ValueError, match="has no split 'val'"):
            open_source(tmp_path / name, "val", False, {})
    (tmp_path / "one" / "state.json").write_text("{}")
    with pytest.raises(ValueError, match="written by `save_to_disk`, but cannot be read.*Save it again"):
        open_source(tmp_path / "one", "train", False, {})


def test_what_is_not_here_or_no_rows_is_named(tmp_path):
    (tmp_path / "rows.txt").write_text("")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    (tmp_path / "empty").mkdir()
    for name, error, message in (
        ("gone.jsonl", FileNotFoundError, "is no local file or folder. Correct the path"),
        ("rows.txt", ValueError, "must be a .parquet, .jsonl or .json file"),
        ("broken.parquet", ValueError, "is no intact parquet file"),
        ("empty", FileNotFoundError, "holds no .parquet, .jsonl or .json file"),
    ):
        with pytest.raises(error, match=message):
            open_source(tmp_path / name, "train", False, {})
    write(tmp_path / "empty" / "rows.jsonl", 1)
    (tmp_path / "empty" / "test").mkdir()
    for opener in (open_source, open_stream):
        rest = (False,) if opener is open_source else ()
        with pytest.raises(ValueError, match="`columns` would do nothing"):
            opener(tmp_path / "empty", "train", *rest, {"columns": ["n"]})
        with pytest.raises(ValueError, match="data is never executed"):
            opener("me/rows", "train", *rest, {"trust_remote_code": True})


def test_a_split_that_is_not_there_lists_those_that_are():
    check_split("rows", "test", ["train", "test"])
    with pytest.raises(ValueError, match="rows has no split 'val', only train, test. Pass one of them"):
        check_split("rows", "val", ["train", "test"])
    with pytest.raises(ValueError, match="only train. Leave the split at `train`"):
        check_split("rows", "val", ["train"])
    with pytest.raises(ValueError, match="only none"):
        check_split("rows", "val", [])
