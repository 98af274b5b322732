import json

import pytest
from PIL import Image
from support.files import save_rows
from support.tiny import tiny_row

from trl_mm.cli.main import main as cli
from trl_mm.scripts.report import main, make_parser


@pytest.fixture
def pairs(tmp_path):
    """A folder with one preference row."""
    Image.new("RGB", (40, 30), "red").save(tmp_path / "a.png")
    row = {"images": ["a.png"], "prompt": "What is this?", "chosen": "A red dog.", "rejected": "A green dog."}
    (tmp_path / "train.jsonl").write_text(json.dumps(row) + "\n")
    return tmp_path


def test_writes_beside_the_pairs(pairs, capsys):
    assert cli(["report", str(pairs)]) == 0
    html = (pairs / "report.html").read_text()
    assert "What is this?" in html and '<mark class="bad"' in html
    assert "1 rows, 1 of them below" in capsys.readouterr().out
    assert {path.name for path in pairs.iterdir()} == {"a.png", "train.jsonl", "report.html"}


def test_writes_into_the_working_directory(pairs, tmp_path_factory, monkeypatch):
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    main([str(pairs / "train.jsonl")])
    with open("report.html") as file:
        assert "Preference pairs: train.jsonl" in file.read()


def test_missing_images_are_counted(pairs, capsys):
    (pairs / "a.png").unlink()
    assert cli(["report", str(pairs)]) == 0
    assert "Images that cannot be read: 1 in 1 rows" in capsys.readouterr().out
    assert "No such file: a.png" in (pairs / "report.html").read_text()
    assert not (pairs / "bad_rows.jsonl").exists()


@pytest.mark.parametrize(
    "flags",
    [["P"], ["--path", "P"], ["--html", "h", "P"], ["P", "--html", "h"], ["--max_rows", "2", "P", "--html", "h"]],
)
def test_path_with_and_without_its_flag(flags):
    (args,) = make_parser().parse_args_and_config(flags)
    assert args.path == "P"
    assert args.html == ("h" if "h" in flags else "report.html")


@pytest.mark.parametrize("flags", [["P"], ["--path", "P"], []])
def test_a_path_overrides_the_recipe(flags, tmp_path):
    (tmp_path / "recipe.yaml").write_text("path: recipe\n")
    (args,) = make_parser().parse_args_and_config(["--config", str(tmp_path / "recipe.yaml"), *flags])
    assert args.path == ("P" if flags else "recipe")


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        ([], "`path` is missing"),
        (["{}", "--max_rows", "0"], "`max_rows` must be at least 1, got 0"),
        (["{}", "--image_size", "9000"], r"`image_size` must be in \[16, 1024\] pixels, got 9000"),
        (["{}", "--html", "{}"], "`html` must be a file"),
        (["{}/sft.jsonl"], "is no local file"),
    ],
)
def test_errors_name_the_argument(pairs, flags, error):
    with pytest.raises((ValueError, FileNotFoundError), match=error):
        main([flag.format(pairs) for flag in flags])


def test_the_flag_of_other_commands_is_named(pairs, capsys):
    with pytest.raises(SystemExit):
        cli(["report", "--dataset_name", str(pairs)])
    assert "The pairs stand without a flag: `trl-mm report PATH`" in capsys.readouterr().err


def test_help_names_the_argument(capsys):
    with pytest.raises(SystemExit):
        cli(["report", "--help"])
    assert capsys.readouterr().out.startswith("usage: trl-mm report PATH")


def test_a_page_of_somebody_else_is_left_alone(pairs, capsys):
    page = pairs / "report.html"
    page.write_text("<p>mine</p>")
    assert cli(["report", str(pairs)]) == 2
    assert "was not written by `trl-mm report`. Name another" in capsys.readouterr().err
    assert page.read_text() == "<p>mine</p>"
    assert cli(["report", str(pairs), "--overwrite", "true"]) == 0
    assert cli(["report", str(pairs)]) == 0, "its own page is replaced"
    assert "What is this?" in page.read_text()


def test_a_page_is_not_written_through_a_link(pairs, tmp_path_factory):
    mine = tmp_path_factory.mktemp("mine") / "report.html"
    mine.write_text("mine")
    (pairs / "report.html").symlink_to(mine)
    assert cli(["report", str(pairs)]) == 2
    assert cli(["report", str(pairs), "--overwrite", "true"]) == 0
    assert mine.read_text() == "mine" and not (pairs / "report.html").is_symlink()


def test_what_data_say_does_not_reach_the_terminal_as_commands(pairs, capsys):
    (pairs / "train.jsonl").write_text(json.dumps({"\x1b[2J": 1, "y" * 100_000: 2}) + "\n")
    assert cli(["report", str(pairs)]) == 2
    error = capsys.readouterr().err
    assert "\x1b" not in error and r"\x1b[2J" in error and len(error) < 5000
    assert cli(["report", "gone\x1b]0;title\x07.jsonl"]) == 2
    assert "\x1b" not in capsys.readouterr().err


@pytest.mark.parametrize("broken", [b'{"chosen": "A', b'{"prompt": "What?", "chosen": "", "rejected": "B."}', b"\xff"])
def test_broken_rows_are_named_with_what_goes_on_without_them(pairs, capsys, broken):
    assert cli(["report", str(pairs), "--converter", "gone"]) == 2
    assert "leaves out" not in capsys.readouterr().err, "no row is to blame"
    with open(pairs / "train.jsonl", "ab") as file:
        file.write(broken + b"\n")
    assert cli(["report", str(pairs)]) == 2
    assert f"`trl-mm convert {pairs} --output_dir …` leaves out what is broken" in capsys.readouterr().err
    assert cli(["convert", str(pairs), "--output_dir", str(pairs / "out")]) == 0
    assert cli(["report", str(pairs / "out")]) == 0


def test_rows_of_another_layout(tmp_path):
    row = {"images": [], "question": "What is it?", "chosen": "A dog.", "rejected": "A cat."}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(row) + "\n")
    main([str(tmp_path), "--columns", '{"prompt": "question"}'])
    assert "What is it?" in (tmp_path / "report.html").read_text()
    with pytest.raises(ValueError, match="`columns` .* is no JSON"):
        main([str(tmp_path), "--columns", "prompt=question"])


def test_datasets_side_by_side_and_images_that_are_elsewhere(tmp_path, capsys):
    for name, count in (("train", 3), ("other", 2)):
        (tmp_path / name).mkdir()
        rejected = [{"role": "assistant", "content": "There is a dog."}]
        rows = [{**tiny_row(seed), "rejected": rejected} for seed in range(count)]
        save_rows(tmp_path / name / "rows.jsonl", rows)
    main(
        [str(tmp_path / "train"), "--html", str(tmp_path / "page.html"), "--against", str(tmp_path / "other")]
        + ["--leaks", str(tmp_path / "other"), "--similarity", "lexical"]
    )
    page = (tmp_path / "page.html").read_text()
    assert "What the pairs are made of" in page and "Images that are elsewhere, too" in page
    assert "Similarity of rejected to chosen" in page
    assert f"2 of 3 images are in {tmp_path / 'other'}, too." in capsys.readouterr().out
