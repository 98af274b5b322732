import json
import subprocess
import sys

import datasets
import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trl_mm.data import images, reader
from trl_mm.data.loading import load_preferences, prepare_preferences
from trl_mm.data.subset import subset_positions


SIZES = st.integers(1, 60)
SEEDS = st.integers(-(2**40), 2**40)


@given(SIZES, SIZES, SEEDS)
def test_positions_are_so_many_different_ones_in_the_order_of_the_dataset(num_rows, max_rows, seed):
    positions = list(subset_positions(num_rows, max_rows, seed))
    assert positions == sorted(set(positions)) and len(positions) == min(num_rows, max_rows)
    assert set(positions) <= set(range(num_rows))
    assert positions == list(subset_positions(num_rows, max_rows, seed))


@given(SIZES, SIZES, SIZES, SEEDS)
def test_larger_subsets_contain_the_smaller_ones(num_rows, some, more, seed):
    small, large = sorted((some, more))
    assert set(subset_positions(num_rows, small, seed)) <= set(subset_positions(num_rows, large, seed))


@given(SIZES, SIZES)
def test_without_a_seed_they_are_the_first_ones(num_rows, max_rows):
    assert list(subset_positions(num_rows, max_rows)) == list(range(num_rows))[:max_rows]
    assert list(subset_positions(num_rows)) == list(range(num_rows))


def test_every_row_is_as_likely():
    """Each of 20 rows is in a subset of 5 for a quarter of the seeds, whatever the seed and the place."""
    counts = np.zeros(20)
    for seed in range(2000):
        counts[list(subset_positions(20, 5, seed))] += 1
    deviation = np.sqrt(2000 * 0.25 * 0.75)
    assert np.abs(counts - 500).max() < 4 * deviation


def test_every_process_draws_the_same_rows():
    """Whatever Python's hashes of texts are there."""
    code = "from trl_mm.data.subset import subset_positions; print(subset_positions(1000, 5, 3))"
    drawn = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": seed},
            capture_output=True, text=True, check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }  # fmt: skip
    assert drawn == {str(subset_positions(1000, 5, 3))} == {"[404, 627, 801, 843, 898]"}


def row(index):
    return {"images": [f"{index}.png"], "prompt": "What?", "chosen": f"{index}.", "rejected": "B."}


@pytest.fixture(params=["jsonl", "parquet"])
def data(request, tmp_path):
    """Twenty rows in two files, each with an image of its own."""
    for start in (0, 10):
        rows = [row(index) for index in range(start, start + 10)]
        file = tmp_path / f"part{start:02}.{request.param}"
        if request.param == "jsonl":
            file.write_text("\n".join(map(json.dumps, rows)))
        else:
            pq.write_table(pa.Table.from_pylist(rows), file)
        for index in range(start, start + 10):
            PIL.Image.new("RGB", (6, 5), (index, 0, 0)).save(tmp_path / f"{index}.png")
    return tmp_path


def drawn(dataset):
    return [int(text[0]["content"].removesuffix(".")) for text in dataset["chosen"]]


@pytest.mark.parametrize("check_images", [True, False])
def test_rows_of_the_subset_keep_their_positions(data, check_images):
    dataset = load_preferences(data, max_rows=6, shuffle_seed=1, check_images=check_images)
    wanted = list(subset_positions(20, 6, 1))
    assert drawn(dataset) == wanted and dataset["row_id"][:] == list(map(str, wanted))
    assert [item["images"][0].getpixel((0, 0))[0] for item in dataset] == wanted
    assert drawn(load_preferences(data, max_rows=6)) == list(range(6))
    assert drawn(load_preferences(data, max_rows=6, shuffle_seed=2)) != wanted
    assert drawn(load_preferences(data, max_rows=100, shuffle_seed=1)) == list(range(20))


def test_rows_in_the_format_and_in_memory_are_drawn_alike(data):
    whole = load_preferences(data)
    wanted = list(subset_positions(20, 6, 1))
    for rows in (whole, list(whole)):
        subset = prepare_preferences(rows, max_rows=6, shuffle_seed=1)
        assert drawn(subset) == wanted and subset["row_id"][:] == list(map(str, wanted))


@pytest.mark.parametrize("seed", [None, 1])
def test_only_images_of_the_subset_are_looked_at(data, monkeypatch, seed):
    wanted = list(subset_positions(20, 6, seed))
    for index in set(range(20)) - set(wanted):
        (data / f"{index}.png").unlink()
    opened, found = [], []
    open_image, resolve_image = images.open_image, images.resolve_image
    monkeypatch.setattr(reader, "open_image", lambda image: opened.append(image) or open_image(image))
    monkeypatch.setattr(reader, "resolve_image", lambda *given: found.append(given) or resolve_image(*given))
    assert drawn(load_preferences(data, max_rows=6, shuffle_seed=seed)) == wanted
    assert len(opened) == 6 and {int(image.removesuffix(".png")) for image, _ in found} == set(wanted)


def test_bad_rows_of_the_subset_are_left_out_and_counted(data, caplog):
    wanted = list(subset_positions(20, 6, 1))
    bad = wanted[-1]
    assert bad >= 10, "of the second file"
    (data / f"{bad}.png").write_bytes(b"")
    with pytest.raises(ValueError, match=rf"part10\..*, row {bad - 10}: "):
        load_preferences(data, max_rows=6, shuffle_seed=1)
    dataset = load_preferences(data, max_rows=6, shuffle_seed=1, on_bad_image="skip")
    assert drawn(dataset) == wanted[:-1] and dataset["row_id"][:] == list(map(str, wanted[:-1]))
    assert "1 of 6 rows skipped" in caplog.text
    (listed,) = map(json.loads, (data / "bad_rows.jsonl").read_text().splitlines())
    assert listed["row"] == bad - 10 and "part10" in listed["file"]


def test_a_stream_has_first_rows_only(data):
    stream = load_preferences(data, max_rows=3, streaming=True)
    assert isinstance(stream, datasets.IterableDataset)
    assert [item["row_id"] for item in stream] == ["0", "1", "2"]
    with pytest.raises(ValueError, match=r"`shuffle_seed` \(0\) draws from all rows, .*Leave out `streaming`, or"):
        load_preferences(data, max_rows=3, shuffle_seed=0, streaming=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_rows": 0}, "`max_rows` must be at least 1, got 0"),
        ({"shuffle_seed": 4}, r"`shuffle_seed` \(4\) would do nothing.*Pass `max_rows`"),
    ],
)
def test_what_is_no_subset_is_refused_before_anything_is_read(settings, message):
    with pytest.raises(ValueError, match=message):
        load_preferences("gone.jsonl", **settings)
