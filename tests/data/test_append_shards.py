import json
import logging

import pytest
from support.tiny import tiny_row

from trl_mm.data.append_shards import AppendableShards
from trl_mm.data.dataset_card import make_card
from trl_mm.data.images import resolve_image
from trl_mm.data.loading import load_preferences
from trl_mm.data.manifest import read_manifest


SETTINGS = {"model": "tiny", "bdhs": {"seed": 0}}


def pair(seed):
    row = tiny_row(seed)
    rejected = [{"role": "assistant", "content": "A dog."}]
    return {**row, "images": [resolve_image(image) for image in row["images"]], "rejected": rejected}


def write(folder, steps, *, start=0, save=(), rank=0, world_size=1, shard_size=3, settings=SETTINGS):
    """Two rows per step, as a training that saves after some steps; returns the shards."""
    shards = AppendableShards(folder, settings, start=start, rank=rank, world_size=world_size, shard_size=shard_size)
    for step in range(start, steps):
        for row in range(2):
            shards.add([pair(100 * rank + 2 * step + row)], step)
        shards.end_step(write=step + 1 in save)
    return shards


def rows(folder):
    return sorted((row["step"], row["row_id"]) for row in load_preferences(folder))


def expected(steps, ranks=(0,)):
    return sorted(
        (step, str(100 * rank + 2 * step + row)) for rank in ranks for step in range(steps) for row in (0, 1)
    )


def names(folder):
    return sorted(path.name for path in folder.glob("shard-*"))


def test_rows_load_as_they_were_added(tmp_path):
    shards = write(tmp_path, 5)
    assert names(tmp_path) == ["shard-0000000-000.parquet", "shard-0000002-000.parquet"]
    with pytest.raises(ValueError, match="not complete"):
        load_preferences(tmp_path)
    shards.end_step(write=True)
    manifest = shards.finish()
    assert manifest == read_manifest(tmp_path)
    assert manifest["complete"] and manifest["num_rows"] == 10 and list(manifest["shards"].values()) == [4, 4, 2]
    assert rows(tmp_path) == expected(5)
    assert load_preferences(tmp_path)[0]["images"][0].tobytes() == tiny_row(0)["images"][0].tobytes()


@pytest.mark.parametrize("killed_after", [4, 5, 6, 7])
def test_a_run_goes_on_from_a_step_without_losing_or_repeating_rows(tmp_path, killed_after):
    write(tmp_path, killed_after, save=(2, 4))
    shards = write(tmp_path, 8, start=4)
    shards.end_step(write=True)
    shards.finish()
    assert rows(tmp_path) == expected(8)


def test_a_shard_that_goes_past_the_step_is_cut(tmp_path):
    write(tmp_path, 6, shard_size=12)
    shards = write(tmp_path, 7, start=3, shard_size=12)
    shards.end_step(write=True)
    shards.finish()
    assert rows(tmp_path) == expected(7)


@pytest.mark.parametrize("world_size", [1, 2])
def test_several_processes_write_and_another_number_goes_on(tmp_path, world_size):
    for rank in (0, 1):
        write(tmp_path, 4, rank=rank, world_size=2, save=(2,)).end_step(write=True)
    (tmp_path / ".shard-0000001-001.parquet.rank1.tmp").touch()
    for rank in range(world_size):
        shards = write(tmp_path, 2, start=2, rank=rank, world_size=world_size)
    assert not list(tmp_path.glob(".*"))
    shards.finish()
    assert rows(tmp_path) == expected(2, ranks=(0, 1))


def test_a_finished_folder_grows_again(tmp_path):
    shards = write(tmp_path, 2, save=(2,))
    shards.finish()
    shards = write(tmp_path, 3, start=2)
    assert not read_manifest(tmp_path)["complete"]
    shards.end_step(write=True)
    assert shards.finish()["num_rows"] == 6


def test_other_settings_and_folders_of_another_origin_are_refused(tmp_path):
    write(tmp_path, 2)
    with pytest.raises(ValueError, match="`bdhs.seed` is 0 there and 1 here"):
        write(tmp_path, 2, settings={**SETTINGS, "bdhs": {"seed": 1}})
    assert names(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps({**manifest, "shard_size": 4}))
    with pytest.raises(ValueError, match="`shard_size` is 4 there and null here"):
        write(tmp_path, 2)


def test_a_broken_shard_is_removed_with_a_warning(tmp_path, caplog):
    write(tmp_path, 4)
    path = tmp_path / names(tmp_path)[0]
    path.write_bytes(path.read_bytes()[:-20])
    with caplog.at_level(logging.WARNING):
        shards = write(tmp_path, 4, start=4)
    assert f"{path} is not intact" in caplog.text
    assert shards.finish()["num_rows"] == 4


def test_the_card_says_how_they_were_made(tmp_path):
    shards = write(tmp_path, 2)
    shards.end_step(write=True)
    manifest = shards.finish()
    card = str(make_card(load_preferences(tmp_path), "me/pairs", manifest))
    assert "training step whose policy wrote the rejected answer" in card and "bdhs.seed" in card
