import json
from types import SimpleNamespace

import pytest
import yaml
from support.files import save_rows
from support.rows import said, tiny_pairs
from support.tiny import tiny_image

from trl_mm.cli.main import main as cli
from trl_mm.data.checked import is_checked
from trl_mm.data.rows import PREFERENCE_COLUMNS
from trl_mm.scripts.mixtures import MixturePartSettings, read_parts
from trl_mm.scripts.training import TrainingDataArguments, check_evaluation, load_splits


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Rows in the format, with two splits, and rows of another layout whose images lie elsewhere."""
    folder = tmp_path_factory.mktemp("data")
    for name, count in (("train", 8), ("test", 2)):
        (folder / "ours").mkdir(exist_ok=True)
        save_rows(folder / "ours" / f"{name}.jsonl", tiny_pairs(count))
    (folder / "coco").mkdir()
    tiny_image(9).save(folder / "coco" / "COCO_train2014_000000000009.jpg")
    turns = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A cat."}]
    other = [turns[0], {"from": "gpt", "value": "A dog."}]
    row = {"image": "./data/coco/COCO_train2014_000000000009.jpg", "conversations": turns}
    rows = [{"id": f"{number}", **row, "rejected_conversations": other} for number in range(4)]
    (folder / "povid.json").write_text(json.dumps(rows))
    return folder


def load(data, tmp_path, parts, needs=PREFERENCE_COLUMNS, **settings):
    args = TrainingDataArguments(datasets=parts, **settings)
    training = SimpleNamespace(on_bad_image="error", check_images=True, output_dir=str(tmp_path), process_index=0)
    return load_splits(args, training, needs)


def parts(data, **povid):
    return [
        {"path": str(data / "ours"), "weight": 0.5, "test_split": "test"},
        {"path": str(data / "povid.json"), "converter": "povid", "image_folder": str(data / "coco"), **povid},
    ]


def test_each_part_has_settings_of_its_own(data, tmp_path, capsys):
    train, test = load(data, tmp_path, parts(data, weight=2, max_rows=3, shuffle_seed=0))
    named = [row_id.split(":")[0] for row_id in train["row_id"]]
    assert (named.count("ours"), named.count("povid.json")) == (4, 6)
    assert named != sorted(named), "the order is random"
    assert sorted(test["row_id"]) == ["ours:0", "ours:1"]
    assert {row["source"] for row in train} == {"ours", "povid.json"}
    assert all(row["rejected"] == said("A dog.") for row in train if row["source"] == "povid.json")
    said_of = capsys.readouterr().out
    assert "Mixture of 10 rows:" in said_of and "ours                4 (40.0%), of 8" in said_of
    assert is_checked(train, PREFERENCE_COLUMNS, True) and is_checked(test, PREFERENCE_COLUMNS, True)


def test_settings_of_the_command_are_for_parts_that_say_nothing(data, tmp_path):
    alone = [{"path": str(data / "povid.json"), "source": "povid"}]
    train, test = load(data, tmp_path, alone, converter="auto", image_folder=str(data / "coco"), max_rows=3)
    assert len(train) == 3 and test is None
    again, _ = load(data, tmp_path, alone, converter="povid", image_folder=str(data / "coco"), max_rows=3)
    assert again["row_id"] == train["row_id"] != ["povid:0", "povid:1", "povid:2"]


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"converter": "pvid"}, r"^`datasets`, part povid.json: `converter` must be one of "),
        ({"split": "val"}, r"^`datasets`, part povid.json: .*val"),
        ({"image_folder": "nowhere"}, r"^`datasets`, part povid.json: .*COCO_train2014_000000000009.jpg"),
        ({"path": "gone.json"}, r"^`datasets`, part gone.json: `gone.json` is no local file"),
    ],
)
def test_what_is_wrong_with_a_part_names_it(data, tmp_path, broken, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load(data, tmp_path, parts(data, **broken))


def test_bad_rows_of_each_part_are_listed_by_its_name(data, tmp_path):
    rows = json.loads((data / "povid.json").read_text())
    rows[1]["rejected_conversations"][1]["value"] = ""
    (tmp_path / "povid.json").write_text(json.dumps(rows))
    settings = [{"path": str(tmp_path / "povid.json"), "converter": "povid", "image_folder": str(data / "coco")}]
    train, _ = load(data, tmp_path / "out", settings)
    assert len(train) == 3
    (listed,) = (tmp_path / "out" / "povid.json_bad_rows.jsonl").read_text().splitlines()
    assert json.loads(listed)["row"] == 1


@pytest.mark.parametrize(
    ("datasets", "message"),
    [
        ([], r"`datasets` must be a list of settings, one for each dataset, got \[\]. On the command line write '\["),
        ({"path": "a"}, r"must be a list of settings"),
        (["a"], r"`datasets`, part 0 must hold `path` and other settings, got 'a'"),
        ([{"path": "a"}, {"weight": 1}], r"`datasets`, part 1 must hold `path`"),
        ([{"path": "a", "wieght": 1}], r"part 0: unknown setting `wieght`, did you mean `weight`\?"),
        ([{"path": "a", "fraction": 0.5}], r"`fraction` of TRL's mixtures is not read here. .*`weight`"),
        ([{"path": "a", "weight": 0}], r"part 0 \(a\): `weight` must be above 0"),
        ([{"path": "a", "weight": "half"}], r"part 0 \(a\): `weight` must be a number, got 'half'"),
        ([{"path": "a", "weight": True}], r"`weight` must be a number, got True"),
        ([{"path": "a", "max_rows": 0}], r"part 0 \(a\): `max_rows` must be at least 1"),
        ([{"path": "a", "max_rows": 2.5}], r"`max_rows` must be a whole number, got 2.5"),
        ([{"path": "a", "columns": ["prompt"]}], r"`columns` must be a mapping, got \['prompt'\]"),
        ([{"path": "a", "shuffle_seed": 1}], r"`shuffle_seed` \(1\) would do nothing"),
        ([{"path": None}], r"`path` must be a text, got None"),
        ([{"path": "a"}, {"path": "b/a"}], r"part 1: another part is called a, too. .*`source`"),
        ([{"path": "a", "source": "../a"}], r"`source` must be letters, digits"),
        ([{"path": "a", "source": "a:b"}], r"`source` must be letters, digits"),
    ],
)
def test_settings_that_make_no_sense_are_refused(datasets, message):
    with pytest.raises(ValueError, match=message):
        read_parts(datasets)


@pytest.mark.parametrize("path", ["openbmb/RLHF-V-Dataset", "a b/c d.jsonl", "/", "..", "ü/ñ:1"])
def test_names_of_parts_are_names_of_files(path):
    (part,) = read_parts([{"path": path}])
    assert part.source and not set(part.source) & set("/\\: ")


def test_one_of_both_is_needed():
    with pytest.raises(ValueError, match="`dataset_name` is missing: name the folder"):
        TrainingDataArguments()
    with pytest.raises(ValueError, match="`dataset_name` and `datasets`. Leave one out; `--datasets null` takes back"):
        TrainingDataArguments(dataset_name="a", datasets=[{"path": "b"}])
    assert TrainingDataArguments(dataset_name="a", datasets="null").datasets is None
    assert TrainingDataArguments(datasets='[{"path": "b"}]').datasets == [{"path": "b"}]
    with pytest.raises(ValueError, match=r"`datasets` \(a,b\) is no JSON: .*On the command line write"):
        TrainingDataArguments(datasets="a,b")


def test_an_evaluation_may_be_of_one_part_only():
    steps = SimpleNamespace(eval_strategy="steps")
    check_evaluation(TrainingDataArguments(datasets=[{"path": "a", "test_split": "test"}, {"path": "b"}]), steps)
    with pytest.raises(ValueError, match="there are no rows for it"):
        check_evaluation(TrainingDataArguments(datasets=[{"path": "a"}]), steps)


@pytest.mark.parametrize("command", ["dpo", "online-dpo", "reward"])
def test_commands_that_train_take_mixtures(command, checkpoint, data, tmp_path, capsys):
    recipe = {"datasets": parts(data), "model_name_or_path": checkpoint, "output_dir": str(tmp_path / "out")}
    recipe |= {"max_steps": 1, "per_device_train_batch_size": 2, "use_cpu": True, "bf16": False, "dtype": "float32"}
    recipe |= {"report_to": "none", "save_strategy": "no", "gradient_checkpointing": False}
    if command == "online-dpo":
        recipe["offline_probability"] = 1.0
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert cli([command, "--config", str(tmp_path / "recipe.yaml"), "--dry_run"]) == 0
    assert "Tokens of the 8 rows of the train dataset" in capsys.readouterr().out
    assert cli([command, "--config", str(tmp_path / "recipe.yaml")]) == 0
    printed = capsys.readouterr().out
    assert printed.count("Mixture of 8 rows:") == 1 and "Tokens of the 8 rows of the train dataset" in printed
    card = (tmp_path / "out" / "README.md").read_text()
    assert "8 rows of ours, povid.json" in card and "weight: 0.5" in card and str(data) not in card


def test_defaults_are_those_of_one_dataset():
    assert MixturePartSettings(path="a/b").source == "b" and MixturePartSettings(path="a").weight == 1.0
