"""Real photographs with their annotations, through `trl-mm eval` from end to end."""

import json

import pytest
from support.published import published

from trl_mm.eval.answers import read_answers
from trl_mm.scripts.eval import main


@pytest.fixture
def photos():
    folder = published("photos_coco_cc")
    if not folder.is_dir():
        pytest.skip(f"no photographs at {folder}")
    return folder


def test_photographs_are_described_and_asked_about(checkpoint, photos, tmp_path, capsys):
    main(
        ["--model_name_or_path", checkpoint, "--annotations", str(photos / "instances_subset.json")]
        + ["--image_folder", str(photos / "images"), "--output_dir", str(tmp_path), "--dtype", "float32"]
        + [
            "--captions",
            str(photos / "captions_subset.json"),
            "--max_new_tokens",
            "4",
            "--benchmarks",
            "chair",
            "pope",
        ]
    )
    scores = json.loads((tmp_path / "scores.json").read_text())
    record = json.loads((tmp_path / "run.json").read_text())["benchmarks"]
    annotated = json.loads((photos / "instances_subset.json").read_text())["images"]
    assert len(read_answers(tmp_path / "chair")) == len(annotated) == 51 == record["chair"]["images"]
    assert all(1 <= count <= 80 for count in scores["chair"]["counts"]["annotated"])
    # Each strategy asks as often about objects that are there as about others, of at most six an image
    for found in scores["pope"].values():
        assert len(found["correct"]) % 2 == 0 and len(found["correct"]) <= 6 * 51
    assert len(read_answers(tmp_path / "pope")) == record["pope"]["questions"]
    assert sum(len(found["correct"]) for found in scores["pope"].values()) == record["pope"]["questions"]
    assert "51 captions" in capsys.readouterr().out
