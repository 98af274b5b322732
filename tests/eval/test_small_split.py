import json

import pytest
from support.tiny import tiny_image, tiny_processor

from trl_mm.eval.benchmark import Benchmark
from trl_mm.eval.chair import ChairBenchmark
from trl_mm.eval.pope import PopeBenchmark
from trl_mm.eval.small_split import small_split, training_questions


def rows(images, each):
    return [{"image": f"{image}.png", "question": f"{number}?"} for number in range(each) for image in range(images)]


def pope(folder, images=4):
    """Published questions, of which each image has two."""
    lines = []
    for image in range(images):
        tiny_image(image).save(folder / f"{image}.png")
        for object_, label in (("dog", "yes"), ("cat", "no")):
            lines.append({"image": f"{image}.png", "text": f"Is there a {object_} in the image?", "label": label})
    (folder / "random.json").write_text("\n".join(map(json.dumps, lines)))
    return PopeBenchmark(pope_files=[str(folder / "random.json")])


def test_images_are_drawn_with_all_their_questions():
    split = small_split(rows(10, 3), 12, seed=0)
    images = [row["image"] for row in split]
    assert len(split) == 12 and all(images.count(image) == 3 for image in images)
    assert split == [row for row in rows(10, 3) if row["image"] in images], "in the order of the rows"
    assert split == small_split(rows(10, 3), 13, seed=0)
    assert {row["image"] for row in small_split(rows(10, 3), 12, seed=1)} != set(images)
    assert len(small_split(rows(10, 3), 1, seed=0)) == 3, "one image at least"
    assert small_split(rows(10, 3), None, seed=0) == small_split(rows(10, 3), 30, seed=0) == rows(10, 3)


def test_questions_have_the_paths_of_their_images(tmp_path):
    found = training_questions({"pope": pope(tmp_path)}, image_folder=tmp_path, max_questions=4)
    assert len(found["pope"]) == 4
    assert all(row["file"] == str(tmp_path / row["image"]) for row in found["pope"])


def test_what_cannot_be_asked_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`benchmarks` names none"):
        training_questions({}, image_folder=tmp_path)
    with pytest.raises(ValueError, match="`annotations` is missing"):
        training_questions({"chair": ChairBenchmark()}, image_folder=tmp_path)
    benchmark = pope(tmp_path)
    with pytest.raises(ValueError, match="`max_questions` must be at least 1, got 0"):
        training_questions({"pope": benchmark}, image_folder=tmp_path, max_questions=0)
    for name in ("1.png", "3.png"):
        (tmp_path / name).unlink()
    with pytest.raises(ValueError, match=r"POPE: 2 of 4 images are missing in `image_folder` .* the first: .*1\.png"):
        training_questions({"pope": benchmark}, image_folder=tmp_path)


def test_a_benchmark_that_needs_a_judge_is_refused(tmp_path):
    class Judged(PopeBenchmark):
        title = "Judged"
        judge_options = {"temperature": 0}

    assert issubclass(Judged, Benchmark)
    with pytest.raises(ValueError, match="Judged needs a judge, and during training there is none"):
        training_questions({"judged": Judged()}, image_folder=tmp_path)


def test_a_question_that_spells_an_image_is_refused(tmp_path):
    benchmark = pope(tmp_path)
    benchmark.pope_suffix = "<image>"
    with pytest.raises(ValueError, match="row of pope: the prompt"):
        training_questions({"pope": benchmark}, image_folder=tmp_path, processor=tiny_processor())
