"""The Shapes world: what its files hold, what is done again after a change or a kill, and the page at the end."""

import json
import random
import shutil
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support.chromium import evaluate

from trl_mm import load_preferences
from trl_mm.data.shards import write_shards
from trl_mm.eval.chair import chair
from trl_mm.eval.objects import ObjectVocabulary, load_annotations
from trl_mm.eval.pope import pope_questions
from trl_mm.eval.pope_scores import pope_scores
from trl_mm.reward.measures import measure_pairs


SHAPES = Path(__file__).parents[2] / "recipes" / "shapes"
with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(SHAPES)
    compare, corrupt, held_out, report = map(import_module, ("compare", "corrupt", "held_out", "report"))
    rewards, steps, world = map(import_module, ("rewards", "steps", "world"))

VOCABULARY = ObjectVocabulary({name: [] for name in world.TYPES})
TYPES = st.lists(st.sampled_from(world.TYPES), min_size=1, max_size=6, unique=True)
LOW, HIGH = (world.make_parser().get_default(name) for name in ("min_types", "max_types"))
SIZES = {"train_images": 40, "validation_images": 6, "test_images": 6, "sft_rows": 120}


def make(folder, **settings):
    flags = [f"--{key}={value}" for key, value in {**SIZES, **settings}.items()]
    world.make_world(folder, world.make_parser().parse_args([f"--output_dir={folder}", *flags]))
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make(tmp_path_factory.mktemp("world"), caption_noise=0)


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def named(text):
    return [mention.object for mention in VOCABULARY.mentions(text)]


def train_truths(folder):
    """From each training image of the world `made` to its types: the same draws once more."""
    return dict(world.World(folder, 0).images("train", SIZES["train_images"], LOW, HIGH))


# The world


def test_rows_load_as_those_of_a_user(made):
    captions = load_preferences(made / "captions.jsonl", needs=("images", "prompt", "chosen"))
    assert len(captions) == 40 and len(set(captions["row_id"])) == 40
    assert {row["images"][0].size for row in captions} == {(world.CELL * world.GRID,) * 2}
    sft = load_preferences(made / "sft.jsonl", needs=("images", "prompt"))
    assert len(sft) == 120
    kinds = [row_id.split("-")[0] for row_id in sft["row_id"]]
    assert set(kinds) == {"caption", "question", "text"}
    assert all((kind == "text") == (not row["images"]) for kind, row in zip(kinds, sft, strict=True))


def test_without_noise_a_caption_names_just_what_its_image_shows(made, tmp_path):
    truths = train_truths(tmp_path)
    lines = (made / "captions.jsonl").read_text().splitlines()
    for row in map(json.loads, lines):
        assert sorted(named(row["chosen"][0]["content"])) == sorted(truths[row["images"][0]])
    assert {len(names) for names in truths.values()} == set(range(LOW, HIGH + 1))


@given(TYPES, st.integers(0, 99))
def test_an_image_shows_the_colours_of_its_types(names, seed):
    pixels = np.asarray(world.draw(random.Random(seed), names), dtype=int).reshape(-1, 3)
    painted = pixels[pixels.min(axis=1) < 200]  # the ground is nearly white
    palette = np.array(list(world.COLOURS.values()))
    nearest = np.abs(painted[:, None] - palette).sum(-1).argmin(-1)
    shown = {name for index, name in enumerate(world.COLOURS) if (nearest == index).sum() > 20}
    assert shown == {name.split()[0] for name in names}


@given(TYPES, st.integers(0, 99))
def test_a_careful_caption_names_each_type_once(names, seed):
    assert sorted(named(world.caption(random.Random(seed), names, 0))) == sorted(names)


def test_annotations_are_what_the_evaluation_reads(made):
    for split in ("validation", "test"):
        truths = load_annotations(made / f"{split}.json")
        assert len(truths) == 6 and all((made / image).is_file() for image in truths)
        for image, names in truths.items():
            pixels = np.asarray(Image.open(made / image))
            assert names <= set(world.TYPES) and pixels.shape == (world.CELL * world.GRID,) * 2 + (3,)
    assert ObjectVocabulary.from_file(made / "objects.txt").objects == world.TYPES
    assert json.loads((made / "partners.json").read_text()) == {name: world.partner(name) for name in world.TYPES}


def test_questions_are_answered_as_the_image_shows(made, tmp_path):
    truths = train_truths(tmp_path)
    answers = []
    for row in map(json.loads, (made / "sft.jsonl").read_text().splitlines()):
        if row["row_id"].startswith("question"):
            turns = row["prompt"] + row.get("completion", row.get("chosen"))
            for question, answer in zip(turns[::2], turns[1::2], strict=True):
                (asked,) = named(question["content"])
                assert answer["content"] == ("Yes." if asked in truths[row["images"][0]] else "No.")
                answers.append(answer["content"])
    assert 0.3 < answers.count("Yes.") / len(answers) < 0.7


def test_equal_seeds_give_equal_files(made, tmp_path):
    assert files(make(tmp_path / "same", caption_noise=0)) == files(made)
    other = files(make(tmp_path / "other", caption_noise=0, seed=1))
    assert other.keys() == files(made).keys()
    assert not [name for name, content in files(made).items() if name.endswith("png") and other[name] == content]


def test_no_image_is_in_two_splits(made):
    images = [content for name, content in files(made).items() if name.endswith(".png")]
    assert len(set(images)) == len(images) == 52


def test_partners_are_a_permutation_without_fixed_points():
    partners = [world.partner(name) for name in world.TYPES]
    assert sorted(partners) == sorted(world.TYPES)
    assert all(name != partner for name, partner in zip(world.TYPES, partners, strict=True))


def followed(texts, absent=None):
    """How often the partner follows a type, of the times that it could: share and number."""
    hits = chances = 0
    for text, names in zip(texts, absent or [()] * len(texts), strict=True):
        found = named(text)
        for index, name in enumerate(found[1:], 1):
            expected = world.partner(found[index - 1])
            if expected not in found[:index] and expected not in names:
                chances += 1
                hits += name == expected
    return hits / chances, chances


@pytest.mark.parametrize("bias", [0.0, 0.5, 0.9])
def test_the_bias_of_text_has_the_share_asked_for(bias):
    rng = random.Random(0)
    texts = [" ".join(map(world.sentence, world.biased_text(rng, bias))) for _ in range(2000)]
    share, chances = followed(texts)
    by_chance = (1 - bias) / (len(world.TYPES) - 2)  # the partner is drawn like any other
    assert abs(share - bias - by_chance) < 4 * (0.25 / chances) ** 0.5
    assert all(len(set(named(text))) == len(named(text)) >= 2 for text in texts)


def test_the_noise_of_captions_has_the_share_asked_for():
    rng = random.Random(0)
    images = [rng.sample(world.TYPES, 4) for _ in range(2000)]
    for noise in (0.0, 0.3):
        share, chances = followed([world.caption(rng, names, noise) for names in images], images)
        assert chances > 1000 and abs(share - noise) < (4 * (0.25 / chances) ** 0.5 if noise else 1e-9)


def test_text_without_an_image_is_biased_and_captions_are_not(tmp_path):
    make(tmp_path, text_bias=1.0, text_share=0.5, caption_noise=0)
    rows = [json.loads(line) for line in (tmp_path / "sft.jsonl").read_text().splitlines()]
    answers = {True: [], False: []}
    for row in rows:
        if not row["row_id"].startswith("question"):
            answers[not row["images"]].append(row.get("completion", row.get("chosen"))[-1]["content"])
    assert followed(answers[True])[0] == 1.0
    assert followed(answers[False])[0] < 0.4
    assert 0.35 < len(answers[True]) / len(rows) < 0.65


# Steps

WRITE = """
import sys
from pathlib import Path
output, source, log = map(Path, sys.argv[1:])
log.open("a").write("run ")
output.mkdir(exist_ok=True)
for part in range(3):
    if (output / str(part)).exists():
        continue
    if part == 2 and (log.parent / "kill").exists():
        sys.exit(9)
    log.open("a").write(f"{part} ")
    (output / str(part)).write_text(source.read_text())
"""


@pytest.fixture
def step(tmp_path):
    """A step that writes three parts, leaves out those that are there, and logs what it does."""
    (tmp_path / "source").write_text("one")
    output = tmp_path / "runs" / "output"
    return steps.Step(
        "write",
        [sys.executable, "-c", WRITE, str(output), str(tmp_path / "source"), str(tmp_path / "log")],
        "write",
        output,
        [tmp_path / "source"],
    )


def log(tmp_path):
    found = (tmp_path / "log").read_text()
    (tmp_path / "log").unlink()
    return found


WHOLE = "run 0 1 2 "


def test_a_step_that_is_done_and_intact_is_left_out(step, tmp_path, capsys):
    assert not step.is_done()
    steps.run_steps([step])
    assert step.is_done() and log(tmp_path) == WHOLE
    assert "[1/1] write" in capsys.readouterr().out
    steps.run_steps([step])
    assert not (tmp_path / "log").exists()
    assert "done before" in capsys.readouterr().out


def test_a_step_is_done_again_when_what_it_reads_changes(step, tmp_path):
    steps.run_steps([step])
    log(tmp_path)
    (tmp_path / "source").write_text("two")
    steps.run_steps([step])
    assert log(tmp_path) == WHOLE and (step.output / "0").read_text() == "two"
    step.shown = "write --otherwise"
    steps.run_steps([step])
    assert log(tmp_path) == WHOLE


@pytest.mark.parametrize("damage", ["change", "delete a part", "add a part", "delete all", "stamp"])
def test_a_step_is_done_again_when_what_it_made_is_not_intact(step, tmp_path, damage):
    steps.run_steps([step])
    log(tmp_path)
    if damage == "change":
        (step.output / "1").write_text("changed")
    elif damage == "delete a part":
        (step.output / "1").unlink()
    elif damage == "add a part":
        (step.output / "more").write_text("?")
    elif damage == "delete all":
        for path in step.output.iterdir():
            path.unlink()
        step.output.rmdir()
    else:
        step.stamp.write_text("{")
    assert not step.is_done()
    steps.run_steps([step])
    assert step.is_done() and log(tmp_path) == WHOLE
    assert files(step.output) == {"0": b"one", "1": b"one", "2": b"one"}


def killed(step, tmp_path):
    (tmp_path / "kill").touch()
    with pytest.raises(Exception, match="exit status 9"):
        steps.run_steps([step])
    (tmp_path / "kill").unlink()
    assert not step.is_done() and log(tmp_path) == "run 0 1 "


def test_a_killed_step_goes_on_in_the_folder_it_has_begun(step, tmp_path):
    killed(step, tmp_path)
    steps.run_steps([step])
    assert step.is_done() and log(tmp_path) == "run 2 "


def test_a_killed_step_begins_anew_when_what_it_reads_has_changed(step, tmp_path):
    killed(step, tmp_path)
    (tmp_path / "source").write_text("two")
    steps.run_steps([step])
    assert log(tmp_path) == WHOLE and set(files(step.output).values()) == {b"two"}


def test_a_killed_step_is_not_taken_for_done_and_the_next_is_not_begun(step, tmp_path):
    after = steps.Step("after", [sys.executable, "-c", "raise SystemExit(1)"], "after", tmp_path / "after")
    (tmp_path / "kill").touch()
    with pytest.raises(Exception, match="exit status 9"):
        steps.run_steps([step, after])
    assert not list(tmp_path.glob(".after*"))


# The report


def write_run(folder, texts):
    """What the commands of one seed leave, with captions made by hand."""
    make(folder / "world")
    truths = load_annotations(folder / "world" / "test.json")
    for model, text in texts.items():
        captions = [text(sorted(truth)) for truth in truths.values()]
        questions = pope_questions(truths, strategy="random", questions_per_image=2, seed=0)
        answers = ["yes" if model == "aligned" or index % 4 else "no" for index in range(len(questions))]
        pope = pope_scores(answers, [question["label"] for question in questions])
        partners = {name: world.partner(name) for name in world.TYPES}
        scores = {
            "chair": chair(captions, list(truths.values()), VOCABULARY, partners=partners),
            "pope": {"random": {**pope, "images": [question["image"] for question in questions]}},
        }
        output = folder / "eval_test" / model
        rows = [{"row_id": str(index), "answer": caption} for index, caption in enumerate(captions)]
        write_shards(output / "chair", rows, lambda rows: rows, {})
        (output / "scores.json").write_text(json.dumps(scores))
        (folder / model).mkdir()
        names = ("loss", "rewards/chosen", "rewards/rejected", "rewards/margins")
        history = [{"step": step, **dict.fromkeys(names, 1 / step)} for step in (1, 2, 3)]
        (folder / model / "trainer_state.json").write_text(json.dumps({"log_history": history}))
    source = load_preferences(folder / "world" / "captions.jsonl", needs=("images", "prompt", "chosen"))
    rejected = [{"role": "assistant", "content": "There is a red circle."}]
    made = {"rejected": rejected, "bdhs_attempts": 1, "bdhs_similarity": 0.5, "bdhs_guided": True}
    write_shards(folder / "pairs", source.select(range(8)), lambda rows: [{**row, **made} for row in rows], {})


def test_the_report_shows_figures_images_and_marks(tmp_path, capsys):
    """The aligned model names what is there; the base also names a partner that is not, the control nothing."""

    def everything(names):
        return " ".join(map(world.sentence, names))

    def and_more(names):
        absent = next(name for name in world.TYPES if name not in names)
        return f"{everything(names)} {world.sentence(absent)}"

    models = {"base": and_more, "control": lambda names: "Nothing.", "aligned": everything}
    write_run(tmp_path / "seed0", models)
    results = report.write_report(tmp_path, [0], tuple(models), shown=4)
    stored = json.loads((tmp_path / "results.json").read_text())
    assert stored == json.loads(json.dumps(results))
    assert stored["seeds"] == [0] and stored["test_images"] == 6
    assert stored["aligned"]["chair_i"] == 0.0 and stored["aligned"]["recall"] == 1.0
    assert stored["base"]["chair_s"] == 1.0 and stored["control"]["recall"] == 0.0
    low, high = stored["difference"]["chair_i"]
    assert -1 < low <= high < 0
    assert {"chair_i", "chair_s", "recall", "pope_accuracy"} <= set(stored["difference"])
    shown = capsys.readouterr().out
    assert all(model in shown for model in models) and "CHAIR_i" in shown and "report.html" in shown

    found = evaluate(
        tmp_path / "report.html",
        """
        const images = [...document.images];
        await Promise.all(images.map((image) => image.decode()));
        const marks = [...document.querySelectorAll("mark")];
        return {
          widths: images.map((image) => image.naturalWidth),
          bad: marks.filter((mark) => mark.className.includes("bad")).map((mark) => mark.textContent),
          good: marks.filter((mark) => mark.className.includes("good")).length,
          plots: document.querySelectorAll("svg").length,
          cells: document.querySelector("table").textContent,
        };
        """,
    )
    assert len(found["widths"]) == 4 + 2 and min(found["widths"]) > 0
    bad = [text for text in found["bad"] if text != "word"]  # the legend
    assert len(bad) >= 4 and set(bad) <= set(world.TYPES)
    assert found["good"] > 8 and found["plots"] >= 3
    assert all(f"aligned - {name}" in found["cells"] for name in ("base", "control"))


@given(TYPES, st.integers(0, 9999))
def test_corruption_of_both_kinds_changes_the_same_places(names, seed):
    answer = " ".join(map(world.sentence, names))
    chance, prior = (named(corrupt.corrupted(random.Random(seed), answer, 0.3, by)) for by in ("chance", "prior"))
    places = [[index for index, name in enumerate(names) if other[index] != name] for other in (chance, prior)]
    assert places[0] == places[1] != [] and len(chance) == len(prior) == len(names)
    assert all(len(set(other)) == len(other) for other in (chance, prior)), "no type is named twice"
    for index in places[0]:
        assert not {chance[index], prior[index]} & set(names)
        if index and world.partner(prior[index - 1]) not in {*names, *prior[:index]}:
            assert prior[index] == world.partner(prior[index - 1])


def write_rewards(folder, row):
    """What evaluations of reward models leave, and held-out pairs of one row, whose image is below the folder."""
    row = {**row, "images": [f"world/{image}" for image in row["images"]]}
    measured = {"": measure_pairs([1.0, 2.0, 3.0, -1.0]), "_blind": measure_pairs([1.0, -1.0])}
    for kind in rewards.KINDS:
        (folder / f"reward-{kind}").mkdir()
        told = {f"{name}{blind}": part for name in rewards.KINDS for blind, part in measured.items()}
        (folder / f"reward-{kind}" / "evaluation.json").write_text(json.dumps(told))
        if kind != "bdhs":
            rewards.held_out(folder, kind).write_text(json.dumps(row))
    source = load_preferences(rewards.held_out(folder, "prior"))
    write_shards(rewards.held_out(folder, "bdhs"), source, lambda rows: rows, {})


def test_held_out_captions_are_of_other_images(made, tmp_path, monkeypatch):
    folder = tmp_path / "seed0"
    shutil.copytree(made, folder / "world")
    output = folder / "held_out.jsonl"
    for path in (output, folder / "again.jsonl"):
        monkeypatch.setattr(sys, "argv", ["held_out.py", f"--world={folder / 'world'}", f"--output={path}"])
        held_out.main()
    assert output.read_bytes() == (folder / "again.jsonl").read_bytes()
    rows = load_preferences(output, needs=("images", "prompt", "chosen"))
    assert len(rows) == SIZES["validation_images"] and all(row["images"][0].size for row in rows)
    lines = list(map(json.loads, output.read_text().splitlines()))
    assert all(row["images"][0].startswith("world/images/validation/") for row in lines)
    wrong = [set(named(row["chosen"][0]["content"])) - set(row["objects"]) for row in lines]
    partners = {world.partner(name) for row in lines for name in named(row["chosen"][0]["content"])}
    assert set().union(*wrong) <= partners


def test_every_method_is_one_step(tmp_path):
    """In an order in which what a step reads is made before it."""
    folder = tmp_path / "seed0"
    planned = compare.compared_steps(folder, 0)
    made = set()
    for step in planned:
        below = [path for path in step.inputs if path.is_relative_to(folder)]
        assert all(any(path.is_relative_to(output) for output in made) for path in below), step.name
        made.add(step.output)
    assert {folder / name for name in compare.MODELS} <= made
    assert {folder / "eval_test" / name for name in compare.MODELS} <= made
    assert not any("{" in word for step in planned for word in step.command if "held_out" not in word)


def test_the_comparison_shows_models_and_what_their_pairs_hold(tmp_path, capsys):
    folder = tmp_path / "seed0"
    write_run(folder, dict.fromkeys(compare.MODELS, lambda names: world.sentence(names[0])))
    for suffix in compare.VARIANTS:
        shutil.copytree(folder / "pairs", folder / f"pairs{suffix}")
    captions = (folder / "world" / "captions.jsonl").read_text().splitlines()
    chosen, rejected = (
        [{"role": "assistant", "content": " ".join(map(world.sentence, names))}]
        for names in (("red circle", "green square"), ("blue cross", "yellow circle", "blue triangle", "red square"))
    )
    row = {**json.loads(captions[0]), "objects": ["red circle"], "chosen": chosen, "rejected": rejected}
    for name in compare.CORRUPTED.values():
        (folder / f"{name}.jsonl").write_text(json.dumps(row))
    write_rewards(folder, row)
    compare.write_comparison(tmp_path, [0])
    results = json.loads((tmp_path / "comparison.json").read_text())
    assert results["pairs"]["corrupted"] == {
        "chosen: wrong": 1 / 2,
        "chosen: by the prior": 1 / 2,
        "rejected: wrong": 1,
        "rejected: by the prior": 1 / 4,  # yellow circle after blue cross; blue triangle is not after green square
    }
    learned = results["rewards"]["BDHS"]["corruption by chance"]
    assert learned == {"accuracy": 0.75, "blind": 0.5, "ece": learned["ece"], "seeds": [0.75]}
    assert results["rewards"]["exact reward"]["BDHS"] == {"accuracy": 1.0, "seeds": [1.0]}
    assert "difference" not in results["base"] and len(results["online"]["seeds"]["chair_i"]) == 1
    assert set(results["pairs"]) == set(compare.PAIRS) and set(compare.MODELS) < set(results)
    shown = capsys.readouterr().out
    assert "75.0 % (50.0 %)" in shown and "exact reward" in shown
    page = (tmp_path / "comparison.html").read_text()
    assert "75.0 % (50.0 %)" in page
    for title in compare.MODELS.values():
        assert title in shown and title.replace("'", "&#39;") in page
