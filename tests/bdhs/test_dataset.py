"""Pairs of a whole dataset: those of the sampler, whatever run or process made them."""

import json
import logging

import pytest
from datasets import Image, IterableDataset, List
from support.files import contents
from support.tiny import tiny_image, tiny_model, tiny_processor, tiny_row

from trl_mm import BDHSConfig, BDHSSampler, load_preferences
from trl_mm.bdhs.dataset import make_pairs
from trl_mm.data import images
from trl_mm.data.loading import prepare_preferences
from trl_mm.data.streaming import stream_preferences


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
    said = rf"Stopped\. {after} shards? of this process (is|are) finished in .*: the same command resumes"
    with pytest.raises(KeyboardInterrupt, match=said):
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


def stream(folder, name="rows.jsonl", **options):
    return stream_preferences(folder / name, needs=NEEDS, **options)


def stored_rows(folder):
    pairs = load_preferences(folder).cast_column("images", List(Image(decode=False)))
    return [dict(row) for row in pairs]


@pytest.mark.parametrize("world_size", [1, 2])
def test_a_stream_gives_the_dataset_of_its_rows(undisturbed, folder, tmp_path, world_size):
    for rank in range(world_size):
        manifest = made(stream(folder), tmp_path, rank=rank, world_size=world_size)
    assert stored_rows(tmp_path) == stored_rows(undisturbed[0])
    assert load_preferences(tmp_path).features == load_preferences(undisturbed[0]).features
    same = ("num_source_rows", "shard_size", "num_rows", "shards", "complete", "versions")
    assert {name: manifest[name] for name in same} == {name: undisturbed[1][name] for name in same}


def test_a_stream_of_parquet_gives_the_dataset_of_its_rows(undisturbed, tmp_path):
    made(load_preferences(undisturbed[0], needs=NEEDS), tmp_path / "map")
    made(stream(undisturbed[0], ""), tmp_path / "stream")
    assert stored_rows(tmp_path / "stream") == stored_rows(tmp_path / "map")


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_killed_stream_is_gone_on_with(after, folder, tmp_path, monkeypatch):
    made(stream(folder), tmp_path / "undisturbed")
    with pytest.raises(KeyboardInterrupt):
        made(stream(folder), tmp_path / "killed", Dying(after))
    opened = []
    real = images.open_image
    monkeypatch.setattr(images, "open_image", lambda image: opened.append(image["path"]) or real(image))
    rest = Dying(3 - after)
    assert made(stream(folder), tmp_path / "killed", rest)["complete"] and rest.left == 0
    assert contents(tmp_path / "killed") == contents(tmp_path / "undisturbed")
    # The fourth row has no image
    assert opened == [str(folder / f"{index}.png") for index in range(2 * after, 5) if index != 3]
    assert made(stream(folder), tmp_path / "killed", Dying(0)) is not None and len(opened) < 5


def test_a_stream_of_other_rows_is_refused(folder, tmp_path):
    lines = (folder / "rows.jsonl").read_text().splitlines()
    others = {
        "other": [*lines[:3], lines[3].replace("red", "blue"), lines[4]],
        "fewer": lines[:4],
        "more": [*lines, lines[0]],
        "other image": [lines[0].replace("0.png", "1.png"), *lines[1:]],
    }
    made(stream(folder), tmp_path / "pairs")
    before = contents(tmp_path / "pairs")
    for name, rows in others.items():
        (folder / f"{name}.jsonl").write_text("\n".join(rows))
        for rank in range(2):
            with pytest.raises(
                ValueError, match="other rows than those that come now|made from 5 rows, and 4 come now"
            ):
                made(stream(folder, f"{name}.jsonl"), tmp_path / "pairs", rank=rank, world_size=2)
    with pytest.raises(ValueError, match="`rows` is .streamed, a digest in each shard. there"):
        made(load_preferences(folder / "rows.jsonl", needs=NEEDS), tmp_path / "pairs")
    assert contents(tmp_path / "pairs") == before


def test_texts_and_parts_in_one_stream(folder, tmp_path):
    lines = (folder / "rows.jsonl").read_text().splitlines()
    lines[2] = lines[2].replace("Describe the image.", "Describe <image> the image.")
    (folder / "mixed.jsonl").write_text("\n".join(lines))
    made(load_preferences(folder / "mixed.jsonl", needs=NEEDS), tmp_path / "map")
    made(stream(folder, "mixed.jsonl"), tmp_path / "stream")
    assert stored_rows(tmp_path / "stream") == stored_rows(tmp_path / "map")
    assert load_preferences(tmp_path / "stream").features == load_preferences(tmp_path / "map").features


def test_bad_images_of_a_stream(folder, tmp_path, caplog):
    lines = (folder / "rows.jsonl").read_text().splitlines()
    lines[1:1] = [lines[1].replace("1.png", "gone.png"), lines[1].replace("1.png", "broken.png")]
    (folder / "broken.png").write_bytes((folder / "1.png").read_bytes()[:60])
    (folder / "bad.jsonl").write_text("\n".join(lines))
    for name in ("gone", "broken"):
        kept = [line for line in lines if name in line or "0.png" in line]
        (folder / f"{name}.jsonl").write_text("\n".join(kept))
        with pytest.raises(ValueError, match=rf"{name}.jsonl, row 1: .*{name}.png.*on_bad_image='skip'"):
            made(stream(folder, f"{name}.jsonl"), tmp_path / name)
    made(load_preferences(folder / "bad.jsonl", needs=NEEDS, on_bad_image="skip"), tmp_path / "map")
    (folder / "bad_rows.jsonl").unlink()
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        for rank in range(2):
            made(stream(folder, "bad.jsonl", on_bad_image="skip"), tmp_path / "pairs", rank=rank, world_size=2)
    assert [record.getMessage()[:17] for record in caplog.records] == ["A row is skipped."] * 2
    assert stored_rows(tmp_path / "pairs") == stored_rows(tmp_path / "map")
    left_out = [json.loads(line) for line in (tmp_path / "pairs" / "bad_rows.jsonl").read_text().splitlines()]
    assert [(row["row"], row["file"]) for row in left_out] == [
        (1, str(folder / "bad.jsonl")),
        (2, str(folder / "bad.jsonl")),
    ]
    assert "gone.png" in left_out[0]["reason"] and "broken.png" in left_out[1]["reason"]


def test_an_iterable_dataset_is_a_stream(undisturbed, folder, rows, tmp_path):
    for name, iterable in (
        ("typed", rows.to_iterable_dataset()),
        ("not typed", IterableDataset.from_generator(lambda: iter(list(rows)))),
        ("loaded", load_preferences(folder / "rows.jsonl", needs=NEEDS, streaming=True)),
    ):
        made(iterable, tmp_path / name)
        assert load_preferences(tmp_path / name)["rejected"][:] == load_preferences(undisturbed[0])["rejected"][:]
    assert stored_rows(tmp_path / "typed") == stored_rows(undisturbed[0])


def test_images_by_path(undisturbed, folder, rows, tmp_path):
    for name, source in (("map", rows), ("stream", stream(folder))):
        made(source, tmp_path / name, images="path", image_folder=folder)
        table = load_preferences(tmp_path / name, image_folder=folder, check_images=False)
        assert table["rejected"][:] == load_preferences(undisturbed[0])["rejected"][:]
        for shard in (tmp_path / name).glob("*.parquet"):
            assert str(folder).encode() not in shard.read_bytes()
        with pytest.raises(ValueError, match="0.png' does not exist. Correct the path, or pass `image_folder`"):
            load_preferences(tmp_path / name)
    pairs = load_preferences(tmp_path / "map", image_folder=folder)
    assert [image.tobytes() for row in pairs for image in row["images"]] == [
        image.tobytes() for row in rows for image in row["images"]
    ]
    with pytest.raises(ValueError, match='`images` is "path" there and "embed" here'):
        made(rows, tmp_path / "map")


def test_images_of_a_link_are_relative_to_what_it_leads_to(folder, rows, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    made(rows, tmp_path / "pairs", images="path", image_folder=tmp_path / "link")
    assert load_preferences(tmp_path / "pairs", image_folder=folder)[0]["images"]


def test_images_without_a_file_are_refused_before_sampling(undisturbed, folder, rows, tmp_path):
    embedded = load_preferences(undisturbed[0], needs=NEEDS)
    decoded = prepare_preferences([tiny_row(0)], needs=NEEDS)
    for source in (embedded, decoded, embedded.to_iterable_dataset(), stream(undisturbed[0], "")):
        with pytest.raises(ValueError, match="`images='path'`, row 0: an image is stored as bytes.*--images embed"):
            made(source, tmp_path / "pairs", Dying(0), images="path", image_folder=folder)
    (tmp_path / "other").mkdir()
    for image_folder, message in (
        (tmp_path / "other", "0.png' is not in the image folder"),
        (None, "needs `image_fold"),
    ):
        with pytest.raises(ValueError, match=message):
            made(rows, tmp_path / "pairs", Dying(0), images="path", image_folder=image_folder)
    with pytest.raises(ValueError, match="`images` must be one of embed, path, got 'link'"):
        made(rows, tmp_path / "pairs", images="link")
    assert not (tmp_path / "pairs").exists()


def test_the_bar_of_the_first_process_shows_how_many_attempts_rows_took(rows, tmp_path, capsys):
    always = sampler(max_attempts=2)
    always.similarity = lambda answers, chosen: [1.0] * len(answers)
    made(rows, tmp_path / "both", always)
    shown = capsys.readouterr().err
    assert "5/5" in shown and "attempt 2: 100%" in shown
    made(rows, tmp_path / "other", rank=1, world_size=2)
    assert "BDHS" not in capsys.readouterr().err
