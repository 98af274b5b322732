import json
import shutil

import pytest
from support.eval_world import made_world, run_eval
from support.tiny import tiny_image

from trl_mm.eval.answers import read_answers
from trl_mm.eval.chair import ChairBenchmark
from trl_mm.eval.mmvet import MMVetBenchmark
from trl_mm.eval.pope import PopeBenchmark
from trl_mm.scripts.eval_questions import as_asked, limited


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return made_world(tmp_path_factory.mktemp("questions"))


def rows(*images):
    return [{"image": image, "question": "What is it?", "truth": 1} for image in images]


def test_the_limit_counts_images():
    asked = rows("a", "b", "a", None, None, "c")
    assert limited(asked, 2) == rows("a", "b", "a")
    assert limited(asked, 3) == rows("a", "b", "a", None) and limited(asked, None) is asked


def test_what_is_asked_has_paths_and_no_truth(world):
    found = as_asked("pope", rows("a.png", None), world / "images")
    assert found[0] == {"image": str(world / "images" / "a.png"), "question": "What is it?"}
    assert found[1] == {"image": None, "question": "What is it?"}


def test_all_missing_images_are_counted_and_the_first_named(world, tmp_path):
    shutil.copytree(world / "images", tmp_path / "images")
    (tmp_path / "images" / "b.png").write_bytes(b"no image")
    names = ["a.png", "b.png", *(f"{index}.png" for index in range(7))]
    with pytest.raises(ValueError, match=r"pope: 8 of 9 images are missing or cannot be read.*'b.png', '0.png'.* 3 m"):
        as_asked("pope", rows(*names), tmp_path / "images")
    with pytest.raises(ValueError, match="2 of 2 images .*None of them is there: .*of other images than the folder's"):
        as_asked("pope", rows("x.png", "y.png"), tmp_path / "images")
    with pytest.raises(ValueError, match="leaves the image folder"):
        as_asked("pope", rows("../pope.jsonl"), world / "images")


def test_images_need_a_folder():
    with pytest.raises(ValueError, match="`image_folder` is missing: pope shows 1 images.*pope=FOLDER"):
        as_asked("pope", rows("a.png"), None)
    assert as_asked("pope", rows(None), None)[0]["image"] is None


def test_answers_are_as_long_as_is_published():
    chair, made, published = ChairBenchmark(), PopeBenchmark(), PopeBenchmark(pope_files=["x"])
    kinds = (chair, made, published, MMVetBenchmark())
    assert [kind.longest_answer(kind.default_length) for kind in kinds] == [256, 16, 128, 1024]
    assert [kind.longest_answer(64) for kind in kinds] == [64, 16, 64, 64]


def test_a_benchmark_may_have_images_of_its_own_and_be_short(world, tmp_path):
    (tmp_path / "own").mkdir()
    tiny_image(9).save(tmp_path / "own" / "a.png")
    flags = ["--model_name_or_path", world / "base", "--image_folders", f"POPE={tmp_path / 'own'}", "--limit", 1]
    run_eval(world, tmp_path / "out", *flags)
    assert len(read_answers(tmp_path / "out" / "pope")) == 2
    manifest = json.loads((tmp_path / "out" / "pope" / "manifest.json").read_text())
    assert manifest["settings"]["max_new_tokens"] == 128
