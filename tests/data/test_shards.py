import inspect
import io
import json
import logging
import os
import signal
import subprocess
import sys
import weakref

import datasets
import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Image, List
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.files import contents

from trl_mm.data import atomic_file
from trl_mm.data import manifest as manifest_module
from trl_mm.data.images import open_image
from trl_mm.data.loading import load_preferences, prepare_preferences
from trl_mm.data.shards import finish_shards, read_left_out, read_manifest, write_shards


SETTINGS = {"mask_threshold": 0.99, "model": "tiny", "range": (1, 2)}


# Ten rows, shards of two. Rows 2 and 3 give nothing, row 5 gives two rows, `verdict` begins with `None`.
def source_rows():
    return [{"index": index, "images": [f"P6 1 1 255 {chr(index) * 3}".encode()]} for index in range(10)]


def transform(rows):
    results = []
    for row in rows:
        index = row["index"]
        made = {"images": row["images"], "prompt": f"{index}?", "verdict": None if index < 6 else "yes"}
        results += [made] * {2: 0, 3: 0, 5: 2}.get(index, 1)
    return results


def run(folder, **options):
    return write_shards(folder, source_rows(), transform, {"model": "tiny"}, shard_size=2, **options)


def start(folder, rank, world_size, before=""):
    """The same run in a process of its own."""
    lines = ["import os, signal", "from trl_mm.data.shards import write_shards", before]
    lines += [inspect.getsource(function) for function in (source_rows, transform, run)]
    lines += [f"run({str(folder)!r}, rank={rank}, world_size={world_size})"]
    return subprocess.Popen([sys.executable, "-c", "\n".join(lines)], stderr=subprocess.PIPE, text=True)


def finish(processes):
    """Errors of the processes, which are bounded in time."""
    try:
        return [process.communicate(timeout=250)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    return run(folder), contents(folder)


def test_dataset_reads_back(tmp_path):
    done = []
    result = run(tmp_path, on_shard=lambda shard, num_rows: done.append((shard, num_rows)))
    assert done == [(0, 2), (1, 0), (2, 3), (3, 2), (4, 2)]
    assert result["complete"] and result["num_rows"] == 9 and result["settings"] == {"model": "tiny"}
    assert result["num_source_rows"] == 10 and result["shard_size"] == 2
    assert result["shards"] == {f"shard-{shard:05d}.parquet": num_rows for shard, num_rows in done}
    assert set(result["versions"]) == {"trl-mm", "trl", "transformers", "datasets", "torch"}
    assert result["versions"]["datasets"] == datasets.__version__
    assert read_manifest(tmp_path) == result
    expected = ["0?", "1?", "4?", "5?", "5?", "6?", "7?", "8?", "9?"]
    verdicts = [None] * 5 + ["yes"] * 4
    for dataset in (
        datasets.load_dataset("parquet", data_files=str(tmp_path / "*.parquet"), split="train"),
        load_preferences(tmp_path, needs=("images", "prompt")),
    ):
        assert dataset.features["images"] == List(Image())
        assert [row["images"][0].getpixel((0, 0))[0] for row in dataset] == [0, 1, 4, 5, 5, 6, 7, 8, 9]
        assert dataset["verdict"][:] == verdicts
    assert [row["prompt"][0]["content"] for row in dataset] == expected


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_dataset_does_not_depend_on_the_number_of_processes(tmp_path, undisturbed, world_size):
    results = [run(tmp_path, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert results == [None] * (world_size - 1) + [undisturbed[0]]
    assert contents(tmp_path) == undisturbed[1]


# The third file to be written is killed before it has its name: a shard of the first process.
KILL = """
real_fsync, calls = os.fsync, []
def fsync(descriptor):
    calls.append(descriptor)
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    real_fsync(descriptor)
os.fsync = fsync
"""


@pytest.mark.parametrize(("killed", "resumed"), [(1, 1), (1, 2), (2, 1)])
def test_killed_run_goes_on(tmp_path, undisturbed, killed, resumed):
    first = [start(tmp_path, rank, killed, KILL if rank == 0 else "") for rank in range(killed)]
    errors = finish(first)
    assert [process.returncode for process in first] == [-signal.SIGKILL, 0][:killed], errors
    finished = {path: path.stat().st_ino for path in tmp_path.glob("*.parquet")}
    assert 0 < len(finished) < 5 and len(list(tmp_path.glob(".*.tmp"))) == 1
    assert read_manifest(tmp_path)["complete"] is False

    second = [start(tmp_path, rank, resumed) for rank in range(resumed)]
    errors = finish(second)
    assert [process.returncode for process in second] == [0] * resumed, errors
    assert contents(tmp_path) == undisturbed[1]


def test_finished_shards_are_not_computed_again(tmp_path):
    run(tmp_path)
    before, done = contents(tmp_path), []
    inodes = {path: path.stat().st_ino for path in tmp_path.glob("*.parquet")}
    write_shards(
        tmp_path,
        source_rows(),
        lambda rows: pytest.fail("nothing was left to do"),
        {"model": "tiny"},
        shard_size=2,
        on_shard=lambda shard, num_rows: done.append((shard, num_rows)),
    )
    assert contents(tmp_path) == before and done == [(0, 2), (1, 0), (2, 3), (3, 2), (4, 2)]
    assert {path: path.stat().st_ino for path in inodes} == inodes


def truncate(path):
    path.write_bytes(path.read_bytes()[:-30])


def cut_to_nothing(path):
    path.write_bytes(b"")


def flip_a_byte(path):
    data = bytearray(path.read_bytes())
    data[data.index(b"P6 1 1 255")] ^= 1
    path.write_bytes(data)


def put_a_foreign_file(path):
    pq.write_table(pa.table({"prompt": ["x"]}), path)


def put_another_shard(path):
    path.write_bytes((path.parent / "shard-00004.parquet").read_bytes())


@pytest.mark.parametrize(
    "harm", [truncate, cut_to_nothing, flip_a_byte, put_a_foreign_file, put_another_shard, os.remove]
)
def test_shard_that_is_not_intact_is_computed_again(tmp_path, undisturbed, harm):
    run(tmp_path)
    harm(tmp_path / "shard-00002.parquet")
    assert contents(tmp_path) != undisturbed[1]
    assert run(tmp_path) == undisturbed[0]
    assert contents(tmp_path) == undisturbed[1]


def test_other_settings_are_refused_with_both_values(tmp_path):
    def write(settings, num_rows=2, shard_size=2):
        source = [{"images": [], "prompt": "?"}] * num_rows
        return write_shards(tmp_path, source, lambda rows: rows, settings, shard_size=shard_size)

    write(SETTINGS)
    before = contents(tmp_path)
    with pytest.raises(ValueError) as error:
        write({"mask_threshold": 0.98, "range": (1, 2), "seed": 0}, num_rows=3, shard_size=4)
    for part in (
        "`mask_threshold` is 0.99 there and 0.98 here",
        '`model` is "tiny" there and not set here',
        "`seed` is not set there and 0 here",
        "`num_source_rows` is 2 there and 3 here",
        "`shard_size` is 2 there and 4 here",
        "Use another folder, or delete this one.",
    ):
        assert part in str(error.value)
    assert "range" not in str(error.value) and contents(tmp_path) == before
    write(SETTINGS)


def test_folder_of_another_origin_is_refused(tmp_path):
    (tmp_path / "train.parquet").write_bytes(b"mine")
    with pytest.raises(ValueError, match="holds parquet files of another origin"):
        run(tmp_path)
    (tmp_path / "train.parquet").unlink()
    for content, message in (
        ("{", "is no JSON"),
        ("[]", "not written by trl_mm"),
        ('{"name": "app"}', "not written by"),
    ):
        (tmp_path / "manifest.json").write_text(content)
        with pytest.raises(ValueError, match=message):
            run(tmp_path)
    assert contents(tmp_path) == {"manifest.json": b'{"name": "app"}'}


def test_wrong_arguments_are_refused(tmp_path):
    for options, message in (
        ({"shard_size": 0}, "`shard_size` must be at least 1, got 0"),
        ({"rank": 2, "world_size": 2}, r"`rank` must be in \[0, `world_size`\), got 2 with `world_size` 2"),
        ({"rank": -1}, "`rank` must be in"),
        ({"settings": {"model": object()}}, "`settings` must be JSON values"),
    ):
        options = {"settings": {}, **options}
        with pytest.raises(ValueError, match=message):
            write_shards(tmp_path, [], lambda rows: rows, **options)
    with pytest.raises(FileNotFoundError, match="is no folder of shards"):
        read_manifest(tmp_path)


def test_other_versions_are_allowed_with_a_warning(tmp_path, caplog, monkeypatch):
    run(tmp_path)
    monkeypatch.setattr(manifest_module, "installed_version", lambda name: "0.0")
    with caplog.at_level(logging.WARNING):
        result = run(tmp_path)
    assert "was begun with" in caplog.text and result["versions"]["trl"] != "0.0"


def test_finishing_too_early_names_the_missing_shards(tmp_path):
    run(tmp_path, rank=1, world_size=2)
    with pytest.raises(ValueError, match=r"shards \[0, 2, 4\] are missing or not intact. Run the same command"):
        finish_shards(tmp_path)
    assert run(tmp_path, rank=0, world_size=2) == finish_shards(tmp_path)


def test_full_disk_leaves_finished_shards_and_no_temporary_file(tmp_path, undisturbed, monkeypatch):
    real, synced = os.fsync, []

    def fsync(descriptor):
        synced.append(descriptor)
        if len(synced) == 4:  # after the manifest and two shards
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="No space left"):
        run(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "manifest.json",
        "shard-00000.parquet",
        "shard-00001.parquet",
    ]
    monkeypatch.undo()
    run(tmp_path)
    assert contents(tmp_path) == undisturbed[1]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no device without space")
def test_a_device_without_space_leaves_no_temporary_file(tmp_path, undisturbed, monkeypatch):
    run(tmp_path)
    (tmp_path / "shard-00001.parquet").unlink()
    before = contents(tmp_path)
    monkeypatch.setattr(atomic_file, "open", lambda path, mode: open("/dev/full", mode), raising=False)
    with pytest.raises(OSError, match="No space left"):
        run(tmp_path)
    assert contents(tmp_path) == before
    monkeypatch.undo()
    run(tmp_path)
    assert contents(tmp_path) == undisturbed[1]


def test_only_leftovers_of_this_rank_are_removed(tmp_path):
    names = [f".shard-00000.parquet.rank{rank}.tmp" for rank in range(4)]
    for name in names:
        (tmp_path / name).write_bytes(b"half")
    run(tmp_path, rank=1, world_size=2)
    assert sorted(path.name for path in tmp_path.glob(".*.tmp")) == [names[0], names[2]]
    run(tmp_path, rank=0, world_size=2)
    assert not list(tmp_path.glob(".*.tmp"))


def digest(rows):
    return json.dumps([row["index"] for row in rows])


def run_stream(folder, rows=None, **options):
    rows = iter(source_rows() if rows is None else rows)
    return write_shards(folder, rows, transform, {"model": "tiny"}, shard_size=2, digest=digest, **options)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_a_stream_gives_the_same_rows(tmp_path, undisturbed, world_size):
    results = [run_stream(tmp_path, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert results == [None] * (world_size - 1) + [{**undisturbed[0], "streamed": True}]
    for name, num_rows in undisturbed[0]["shards"].items():
        table = pq.read_table(tmp_path / name)
        assert len(table) == num_rows and table.equals(pq.read_table(io.BytesIO(undisturbed[1][name])))
    before = contents(tmp_path)
    assert run_stream(tmp_path) == results[-1] and contents(tmp_path) == before


def test_a_stream_that_was_not_read_to_its_end_is_not_complete(tmp_path):
    def broken():
        yield from source_rows()[:5]
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        run_stream(tmp_path, broken())
    assert len(list(tmp_path.glob("*.parquet"))) == 2
    with pytest.raises(ValueError, match="was not read to its end. Run the same command again"):
        finish_shards(tmp_path)
    assert run_stream(tmp_path)["num_rows"] == 9


def test_other_rows_of_a_stream_are_refused(tmp_path):
    with pytest.raises(ConnectionError):
        run_stream(tmp_path, (row if row["index"] < 6 else failed() for row in source_rows()))
    for rows, message in (
        (source_rows()[:4], "was made from more rows, and 4 come now"),
        (source_rows()[1:], "shard-00000.parquet was made from other rows than those that come now"),
    ):
        for rank in range(2):
            with pytest.raises(ValueError, match=message):
                run_stream(tmp_path, rows, rank=rank, world_size=2)
    assert run_stream(tmp_path)["num_rows"] == 9
    with pytest.raises(ValueError, match="was made from 10 rows, and 8 come now"):
        run_stream(tmp_path, source_rows()[:8])
    more = [*source_rows(), *source_rows()[:2]]
    with pytest.raises(ValueError, match="was made from 10 rows, and 12 come now"):
        run_stream(tmp_path, more)
    for other in (run, run_stream):
        folder = tmp_path / other.__name__
        other(folder)
        with pytest.raises(ValueError, match="`streamed` is (not set|true) there and (not set|true) here"):
            (run_stream if other is run else run)(folder)


def failed():
    raise ConnectionError("gone")


def test_what_was_left_out_is_told_in_the_order_of_the_source(tmp_path):
    def transform(rows):
        return [row for row in rows if row["index"] % 3], [row["index"] for row in rows if row["index"] % 3 == 0]

    rows = [{"index": index} for index in range(8)]
    for rank in (1, 0):
        write_shards(tmp_path, rows, transform, {}, shard_size=2, rank=rank, world_size=2)
    assert read_left_out(tmp_path) == [0, 3, 6]


def test_texts_and_parts_become_parts(tmp_path):
    def message(content):
        return {"images": [], "prompt": [{"role": "user", "content": content}]}

    parts = [{"type": "text", "text": "b"}]
    write_shards(tmp_path, [message("a"), message(parts)], lambda rows: rows, {}, shard_size=1)
    dataset = datasets.load_dataset("parquet", data_files=str(tmp_path / "*.parquet"), split="train")
    assert dataset["prompt"][:] == [message([{"type": "text", "text": text}])["prompt"] for text in "ab"]


def test_nothing_at_all_is_a_complete_dataset(tmp_path):
    for name, rows in (("no rows", []), ("no results", [{"prompt": "?"}])):
        result = write_shards(tmp_path / name, rows, lambda rows: [], {})
        assert result["complete"] and result["num_rows"] == 0
        with pytest.raises((ValueError, FileNotFoundError), match="has no rows left|holds no .parquet"):
            load_preferences(tmp_path / name)


def test_columns_and_types_are_the_same_in_all_shards(tmp_path):
    made = [{"a": 1}, {"a": 0.5, "late": [1]}, {"images": [], "a": None, "late": []}]
    write_shards(tmp_path, made, lambda rows: rows, {}, shard_size=1)
    schemas = [pq.read_schema(path) for path in sorted(tmp_path.glob("*.parquet"))]
    assert schemas[0].remove_metadata() == schemas[1].remove_metadata() == schemas[2].remove_metadata()
    dataset = datasets.load_dataset("parquet", data_files=str(tmp_path / "*.parquet"), split="train")
    assert dataset["a"][:] == [1.0, 0.5, None] and dataset["late"][:] == [None, [1], []]
    assert dataset.features["images"] == List(Image())


def test_types_that_do_not_go_together_are_named(tmp_path):
    with pytest.raises(ValueError, match="Column `a` cannot be stored.*one type in all rows"):
        write_shards(tmp_path / "0", [{"a": 1}, {"a": "x"}], lambda rows: rows, {})
    with pytest.raises(ValueError, match="Rows differ in the type of a column.*Field a.*one type in all rows"):
        write_shards(tmp_path / "1", [{"a": 1}, {"a": "x"}], lambda rows: rows, {}, shard_size=1)


def jpeg():
    noise, buffer = np.random.default_rng(0).integers(0, 255, (16, 16, 3), np.uint8), io.BytesIO()
    PIL.Image.fromarray(noise).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize("form", ["path", "bytes", "dict", "dataset of paths", "dataset of bytes"])
def test_bytes_of_files_are_embedded_as_they_are(tmp_path, form):
    (tmp_path / "a.jpg").write_bytes(jpeg())
    path = str(tmp_path / "a.jpg")
    image = {"path": path, "dataset of paths": path, "dict": {"bytes": jpeg(), "path": "a.jpg"}}.get(form, jpeg())
    rows = [{"images": [image, image], "prompt": "?"}]
    if "dataset" in form:
        rows = prepare_preferences(rows, needs=("images", "prompt"))
        assert isinstance(rows[0]["images"][0], PIL.Image.Image)
    write_shards(tmp_path / "out", rows, lambda rows: rows * 2, {})
    (tmp_path / "a.jpg").unlink()
    stored = pq.read_table(tmp_path / "out" / "shard-00000.parquet")["images"].to_pylist()
    assert [[image["bytes"] for image in images] for images in stored] == [[jpeg(), jpeg()]] * 2
    assert {image["path"] for images in stored for image in images} <= {"a.jpg", None}


def test_image_that_the_transform_makes_is_stored_as_it_is(tmp_path):
    source = prepare_preferences([{"images": [jpeg()], "prompt": "?"}] * 2, needs=("images", "prompt"))

    def transform(rows):
        # The rows let go of their images. If these were freed, new ones could have their `id` and be taken for them.
        images = [row.pop("images")[0] for row in rows]
        made = [{**row, "images": [image.resize((4, 4))]} for row, image in zip(rows, images, strict=True)]
        references = [weakref.ref(image) for image in images]
        del images
        assert all(reference() is not None for reference in references)
        return made

    write_shards(tmp_path, source, transform, {})
    for row in load_preferences(tmp_path, needs=("images", "prompt")):
        assert np.array_equal(row["images"][0], open_image(jpeg()).resize((4, 4)))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@given(num_rows=st.integers(0, 12), shard_size=st.integers(1, 5), world_size=st.integers(1, 3), data=st.data())
def test_any_order_of_the_processes_gives_every_row_once(tmp_path_factory, num_rows, shard_size, world_size, data):
    folder = tmp_path_factory.mktemp("any")
    source = [{"index": index} for index in range(num_rows)]
    for rank in data.draw(st.permutations(range(world_size))):
        result = write_shards(
            folder, source, lambda rows: rows, {}, shard_size=shard_size, rank=rank, world_size=world_size
        )
    assert result["complete"] and result["num_rows"] == num_rows
    tables = [pq.read_table(folder / name).to_pylist() for name in result["shards"]]
    assert sum(tables, []) == source and [len(table) for table in tables] == list(result["shards"].values())
    assert json.loads((folder / "manifest.json").read_text()) == result
