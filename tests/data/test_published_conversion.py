"""`trl-mm convert` on a row of each published dataset: recognised, converted, and what makes no pair is counted."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.published_rows import OTHER_ROWS, ROWS
from support.tiny import tiny_image

from trl_mm.data.loading import load_preferences
from trl_mm.data.manifest import read_manifest
from trl_mm.scripts.convert import main


PLACES = """1.jpg images/1.jpg images/1_edited.jpg long/0.jpg short/0.jpg safety/0.jpg
merged_images/1.jpg coco/train2017/1.jpg VG_100K/2316003.jpg
train2014/COCO_train2014_000000033471.jpg train2017/000000316520.jpg""".split()
CASES = [(name, row) for name, row in ROWS.items()] + [(name, row) for name in OTHER_ROWS for row in OTHER_ROWS[name]]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for place in PLACES:
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        tiny_image(3).save(folder / place)
    return folder


@pytest.mark.parametrize(("name", "row"), CASES)
@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_one_line_converts(images, tmp_path, name, row, suffix):
    file = tmp_path / f"rows.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist([row]), file)
    else:
        try:
            file.write_text(json.dumps(row))
        except TypeError:
            pytest.skip("its images are bytes")
    flags = [str(file), "--output_dir", str(tmp_path / "out"), "--image_folder", str(images)]
    if name == "llava_hound":
        with pytest.raises(ValueError, match="No row is left of 1: 1 video"):
            main(flags)
        return
    main(flags)
    manifest = read_manifest(tmp_path / "out")
    assert manifest["settings"]["convert"]["converter"] == name
    assert manifest["summary"]["bad"] == {} and manifest["num_rows"] >= 1
    needs = tuple(manifest["settings"]["convert"]["needs"])
    made = load_preferences(tmp_path / "out", needs=needs)
    assert len({*made["row_id"]}) == len(made)
