"""Pairs of a whole dataset: those of the sampler, whatever run or process made them."""

import json

import pytest
from datasets import Image, List
from tiny import tiny_image, tiny_model, tiny_processor, tiny_row

from trl_mm import BDHSConfig, BDHSSampler, load_preferences
from trl_mm.bdhs.dataset import make_pairs


PROCESSOR = tiny_processor()
MODEL = tiny_model(scale=5)
SOURCE = {"model": "tiny", "dataset": "rows"}
NEEDS = ("images", "prompt", "chosen")


def sampler(**settings):
    settings = {"similarity": "lexical", "max_sentence_tokens": 4, "max_answer_tokens": 6, **settings}
    return BDHSSampler(BDHSConfig(**settings), PROCESSOR)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Rows as a user has them: JSONL with paths of PNG files, the fourth row without an image."""
    folder = tmp_path_factory.mktemp("sft")
    lines = []
    for index in range(5):
        tiny_image(index, (30 + 10 * index, 40)).save(folder / f"{index}.png")
        row = {**tiny_row(index), "images": [] if index == 3 else [f"{index}.png"], "source": "made"}
        lines.append(json.dumps(row))
    (folder / "rows.jsonl").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def rows(folder):
    return load_preferences(folder / "rows.jsonl", needs=NEEDS)


def made(rows, folder, using=None, **options):
    return make_pairs(MODEL, using or sampler(), rows, folder, SOURCE, shard_size=2, **options)


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def undisturbed(rows, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    return folder, made(rows, folder)


def test_pairs_are_those_of_the_sampler(undisturbed, rows):
    folder, manifest = undisturbed
    pairs = load_preferences(folder)
    expected = sampler()(MODEL, list(rows))
    assert len(pairs) == manifest["num_rows"] == 5 and manifest["complete"]
    for pair, wanted in zip(pairs, expected, strict=True):
        assert set(pair) == set(wanted)
        assert {name: pair[name] for name in wanted if name != "images"} == {
            name: value for name, value in wanted.items() if name != "images"
        }
    assert {"source", "row_id", "bdhs_attempts", "bdhs_similarity", "bdhs_guided"} <= set(pairs.column_names)
    assert manifest["settings"]["bdhs"]["mask_threshold"] == 0.99 and manifest["settings"]["model"] == "tiny"


def test_images_are_the_bytes_of_the_files(undisturbed, folder):
    stored = load_preferences(undisturbed[0]).cast_column("images", List(Image(decode=False)))["images"]
    assert [[image["bytes"] for image in images] for images in stored] == [
        [] if index == 3 else [(folder / f"{index}.png").read_bytes()] for index in range(5)
    ]


class Dying:
    """A sampler whose process ends in the middle: it raises when it is asked for the n-th time."""

    def __init__(self, after):
        self.sampler, self.left = sampler(), after
        self.config = self.sampler.config

    def __call__(self, model, rows):
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        return self.sampler(model, rows)


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_killed_run_is_gone_on_with(after, undisturbed, rows, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        made(rows, tmp_path, Dying(after))
    assert len(list(tmp_path.glob("shard-*.parquet"))) == after
    rest = Dying(3 - after)  # asked once more than for what is missing, it would raise
    assert made(rows, tmp_path, rest)["complete"] and rest.left == 0
    assert contents(tmp_path) == contents(undisturbed[0])


def test_two_processes_of_which_one_is_killed_make_the_same_dataset(undisturbed, rows, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        made(rows, tmp_path, Dying(1), rank=0, world_size=2)
    assert made(rows, tmp_path, rank=1, world_size=2) is None
    with pytest.raises(ValueError, match="is not complete. Run the command that writes it again"):
        load_preferences(tmp_path)
    assert made(rows, tmp_path, rank=0, world_size=2)["complete"]
    assert contents(tmp_path) == contents(undisturbed[0])


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("seed", 1),
        ("mask_threshold", 0.5),
        ("positions", "original"),
        ("mode", "noise"),
        ("guided", False),
        ("noise_steps", 200),
    ],
)
def test_a_folder_of_other_settings_is_refused(undisturbed, rows, setting, value):
    before = contents(undisturbed[0])
    with pytest.raises(
        ValueError, match=rf"made with other settings: `bdhs\.{setting}` is [^;]* here\. Use another folder"
    ):
        made(rows, undisturbed[0], sampler(**{setting: value}))
    with pytest.raises(ValueError, match='`model` is "tiny" there and "other" here'):
        make_pairs(MODEL, sampler(), rows, undisturbed[0], {**SOURCE, "model": "other"}, shard_size=2)
    with pytest.raises(ValueError, match="`num_source_rows` is 5 there and 3 here"):
        made(rows.select(range(3)), undisturbed[0])
    assert contents(undisturbed[0]) == before


def test_the_bar_of_the_first_process_shows_how_many_attempts_rows_took(rows, tmp_path, capsys):
    always = sampler(max_attempts=2)
    always.similarity = lambda answers, chosen: [1.0] * len(answers)
    made(rows, tmp_path / "both", always)
    shown = capsys.readouterr().err
    assert "5/5" in shown and "attempt 2: 100%" in shown
    made(rows, tmp_path / "other", rank=1, world_size=2)
    assert "BDHS" not in capsys.readouterr().err
