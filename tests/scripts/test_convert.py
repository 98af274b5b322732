import json

import pytest
from support.tiny import tiny_image

from trl_mm import load_preferences
from trl_mm.cli.main import main as cli
from trl_mm.data.manifest import read_manifest
from trl_mm.data.subset import subset_positions
from trl_mm.scripts.convert import main


NUMBERS = range(12)


def talk(number, **columns):
    turns = [{"from": "human", "value": f"<image>\nWhat is {number}?"}, {"from": "gpt", "value": f"A {number}."}]
    return {"id": str(number), "image": f"data/coco/{name(number)}", "conversations": turns, **columns}


def pair(number, **columns):
    texts = {"prompt": f"What is {number}?", "chosen": f"A {number}.", "rejected": f"B {number}."}
    return {"image": f"data/coco/{name(number)}", **texts, "source": "coco" if number % 3 else "vg", **columns}


def name(number):
    return f"COCO_train2014_{number:012d}.jpg"


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    (folder / "train2017").mkdir(parents=True)
    for number in NUMBERS:
        tiny_image(number).save(folder / "train2017" / f"{number:012d}.jpg")
    return folder


def write(folder, rows):
    file = folder / "rows.json"
    file.write_text(json.dumps(rows))
    return str(file)


def texts(folder, **options):
    return [row["chosen"][-1]["content"] for row in load_preferences(folder, **options)]


def test_one_line_converts(images, tmp_path, capsys):
    file = write(tmp_path, [pair(number) for number in NUMBERS] + [pair(99)])
    assert cli(["convert", file, "--output_dir", str(tmp_path / "out"), "--image_folder", str(images)]) == 0
    said = capsys.readouterr().out
    assert "Converter: none, the rows are in the format. They are preference rows." in said
    assert f"Images: 12 found in {images}, 1 missing." in said
    assert "13 rows read, 12 written\n1 bad: 1 Image file … does not exist\nimages: 12 found, 1 missing" in said
    assert texts(tmp_path / "out") == [f"A {number}." for number in NUMBERS]
    manifest = read_manifest(tmp_path / "out")
    assert manifest["command"].startswith(f"trl-mm convert {file} --output_dir ")
    assert manifest["settings"]["dataset"] == file and manifest["settings"]["convert"]["converter"] is None


def test_sft_rows_are_found_out(images, tmp_path, capsys):
    file = write(tmp_path, [talk(number) for number in NUMBERS])
    main([file, "--output_dir", str(tmp_path / "out"), "--image_folder", str(images)])
    said = capsys.readouterr().out
    assert "Converter: llava_instruct. They are SFT rows: there is no `rejected`." in said
    assert texts(tmp_path / "out", needs=("images", "prompt", "chosen")) == [f"A {number}." for number in NUMBERS]
    assert "12 answers to prompts on images" in (tmp_path / "out" / "README.md").read_text()


def test_a_random_subset_is_that_of_the_converted_rows(images, tmp_path):
    file = write(tmp_path, [pair(number) for number in NUMBERS] + [pair(99)])
    flags = ["--image_folder", str(images), "--where", "source=coco"]
    main([file, "--output_dir", str(tmp_path / "all"), *flags])
    flags += ["--max_rows", "3", "--shuffle_seed", "7"]
    main([file, "--output_dir", str(tmp_path / "some"), *flags])
    assert subset_positions(8, 3, 7) != [0, 1, 2]
    assert texts(tmp_path / "some") == texts(tmp_path / "all", max_rows=3, shuffle_seed=7)
    with pytest.raises(ValueError, match="other settings: `convert.shuffle_seed` is 7 there and 8 here"):
        main([file, "--output_dir", str(tmp_path / "some"), *flags[:-1], "8"])


def test_columns_are_renamed_first(images, tmp_path):
    rows = [{"x1": "What?", "x2": "A.", "x3": "B.", "image": name(1)}]
    file, flags = write(tmp_path, rows), ["--image_folder", str(images), "--output_dir", str(tmp_path / "out")]
    with pytest.raises(ValueError, match=r"rows.json, row 0: the columns are of no known layout: x1, x2, x3, image"):
        main([file, *flags])
    with pytest.raises(ValueError, match="from `x9`, and there is no such column. Columns: x1"):
        main([file, *flags, "--columns", '{"chosen": "x9"}'])
    main([file, *flags, "--columns", '{"prompt": "x1", "chosen": "x2", "rejected": "x3"}'])
    assert texts(tmp_path / "out") == ["A."]


def test_rows_about_safety_are_counted_or_left_out(images, tmp_path, capsys):
    file = write(tmp_path, [pair(number, is_safety=number < 4) for number in NUMBERS])
    flags = ["--image_folder", str(images), "--test_share", "0.5", "--output_dir"]
    main([file, *flags, str(tmp_path / "all")])
    assert "4 about safety (`is_safety`): a refusal may be" in capsys.readouterr().out
    main([file, *flags, str(tmp_path / "some"), "--skip_safety"])
    said = capsys.readouterr().out
    assert "4 not wanted: 4 safety" in said and "about safety" not in said


def test_a_recipe_holds_the_settings(images, tmp_path):
    file = write(tmp_path, [pair(number) for number in NUMBERS])
    (tmp_path / "convert.yaml").write_text(
        f"dataset_name: {file}\noutput_dir: {tmp_path}/out\nimage_folder: {images}\nwhere:\n  source: vg\n"
        "columns: {chosen: rejected, rejected: chosen}\ntest_share: 0.5\n"
    )
    main(["--config", str(tmp_path / "convert.yaml")])
    found = texts(tmp_path / "out", split="train") + texts(tmp_path / "out", split="test")
    assert sorted(found) == ["B 0.", "B 3.", "B 6.", "B 9."]


def test_a_folder_without_the_images_is_refused_before_anything_is_written(images, tmp_path):
    file = write(tmp_path, [pair(number) for number in NUMBERS])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="`image_folder` .*empty.* has none of the images"):
        main([file, "--output_dir", str(tmp_path / "out"), "--image_folder", str(tmp_path / "empty")])
    assert not (tmp_path / "out" / "manifest.json").exists()
    assert "data/coco/COCO_train2014" in (tmp_path / "out" / "bad_rows.jsonl").read_text()


def test_strict_stops_at_the_first_bad_row(images, tmp_path):
    file = write(tmp_path, [pair(0), pair(1, chosen="")])
    flags = ["--output_dir", str(tmp_path / "out"), "--image_folder", str(images)]
    with pytest.raises(ValueError, match="rows.json, row 1: `chosen` is empty.*leave out `strict`"):
        main([file, *flags, "--strict"])
    main([file, *flags])
    assert texts(tmp_path / "out") == ["A 0."]


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        ([], "`output_dir` is missing"),
        (["--output_dir", "out", "--where", "source"], "`where` .source. must be column=value"),
        (["--output_dir", "out", "--test_share", "1.5"], "`test_share` must be between 0 and 1, got 1.5"),
        (["--output_dir", "out", "--max_rows", "0"], "`max_rows` must be at least 1"),
        (["--output_dir", "out", "--shuffle_seed", "1"], "`shuffle_seed` .1. would do nothing"),
        (["--output_dir", "out", "--min_rating_gap", "nan"], "`min_rating_gap` must be a number"),
        (["--output_dir", "out", "--push_to_hub"], "`push_to_hub` needs `repo_id`"),
        (["--output_dir", "out", "--repo_id", "me/pairs"], "would do nothing. Pass `push_to_hub`"),
        (["--output_dir", "out", "--columns", "[1]"], "`columns` must be a mapping"),
        (["--output_dir", "out", "--converter", "lava"], "`converter` must be one of .*llava_instruct"),
        (["--output_dir", "out", "--dataset_split", "test"], "has no split 'test', only train"),
    ],
)
def test_wrong_settings_are_named(tmp_path, monkeypatch, flags, error):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=error):
        main([write(tmp_path, [pair(0)]), *flags])
    assert not (tmp_path / "out").exists()


def test_the_folder_of_the_rows_is_not_written_to(tmp_path):
    write(tmp_path, [pair(0)])
    with pytest.raises(ValueError, match="`output_dir` .* is the folder of the rows. Name another one"):
        main([str(tmp_path), "--output_dir", f"{tmp_path}/"])


def test_no_dataset_is_named(tmp_path):
    with pytest.raises(ValueError, match="`dataset_name` is missing: `trl-mm convert NAME_OR_PATH --output_dir DIR`"):
        main(["--output_dir", str(tmp_path / "out")])


def test_rows_are_pushed_after_the_repository_is_checked(images, tmp_path, monkeypatch, capsys):
    calls = []
    monkeypatch.setattr("trl_mm.data.hub.check_repo", lambda **options: calls.append(options))
    monkeypatch.setattr("trl_mm.data.hub.push_preferences", lambda *args, **options: calls.append((args, options)))
    flags = ["--output_dir", str(tmp_path / "out"), "--image_folder", str(images), "--license", "mit"]
    main([write(tmp_path, [pair(0)]), *flags, "--push_to_hub", "--repo_id", "me/pairs"])
    push = {"repo_id": "me/pairs", "private": None, "overwrite": False}
    assert calls == [push, ((str(tmp_path / "out"),), {**push, "license": "mit"})]
    assert "license: mit" in (tmp_path / "out" / "README.md").read_text()
