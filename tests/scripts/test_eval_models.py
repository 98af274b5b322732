import json
import weakref

import pytest
from support.eval_world import made_world, run_eval, save_adapter, save_other

from trl_mm.eval.answers import read_answers
from trl_mm.scripts import eval_models
from trl_mm.scripts.eval_models import named_values


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A base, two adapters for it, of which one has trained its projector too, and a model of its own."""
    folder = made_world(tmp_path_factory.mktemp("models"))
    save_adapter(folder / "first", folder / "base", 1)
    save_adapter(folder / "second", folder / "base", 2, target_modules=["k_proj"], modules_to_save=["linear_1"])
    save_other(folder / "other")
    return folder


def loads(monkeypatch):
    """What is loaded from now on (`list[str]`)."""
    found, load_model = [], eval_models.load_model

    def counting(args, device):
        found.append(args.model_name_or_path.rsplit("/", 1)[-1])
        return load_model(args, device)

    monkeypatch.setattr(eval_models, "load_model", counting)
    return found


def test_models_answer_as_they_do_alone_and_share_their_base(world, tmp_path, monkeypatch, capsys):
    names = ("first", "other", "base", "second")
    for name in names:
        run_eval(world, tmp_path / name, "--model_name_or_path", world / name, "--max_new_tokens", 8)
    capsys.readouterr()
    loaded = loads(monkeypatch)
    models = [f"{name}={world / name}" for name in names]
    run_eval(world, tmp_path / "all", "--models", *models, "--max_new_tokens", 8)
    assert loaded == ["base", "other"]
    answers = [read_answers(tmp_path / name / "pope") for name in names]
    assert [read_answers(tmp_path / "all" / name / "pope") for name in names] == answers
    assert len(set(map(tuple, answers))) == 4
    shown = capsys.readouterr().out.splitlines()
    assert [line.split(" (")[0] for line in shown if str(world) in line] == list(names)
    scores = [json.loads((tmp_path / "all" / name / "scores.json").read_text()) for name in names]
    assert scores == [json.loads((tmp_path / name / "scores.json").read_text()) for name in names]
    assert not (tmp_path / "all" / "scores.json").exists()


def test_merged_adapters_and_static_caches_answer_as_those_beside_their_base(world, tmp_path):
    names = ("first", "base", "second")
    models = [f"{name}={world / name}" for name in names]
    for folder, flags in {
        "beside": ["--models", *models],
        "together": ["--models", *models, "--merge_adapter", "true", "--cache_implementation", "static"],
        "alone": ["--model_name_or_path", world / "second", "--merge_adapter", "true"],
    }.items():
        run_eval(world, tmp_path / folder, *flags, "--max_new_tokens", 8)
    beside = [read_answers(tmp_path / "beside" / name / "pope") for name in names]
    assert [read_answers(tmp_path / "together" / name / "pope") for name in names] == beside
    assert read_answers(tmp_path / "alone" / "pope") == beside[2]
    assert len(set(map(tuple, beside))) == 3


def test_a_model_is_gone_when_the_next_one_is_loaded(world, tmp_path, monkeypatch):
    load_model, before, alive = eval_models.load_model, [], []

    def watched(args, device):
        alive.append([reference() is not None for reference in before])
        model = load_model(args, device)
        before.append(weakref.ref(model))
        return model

    monkeypatch.setattr(eval_models, "load_model", watched)
    names = ("base", "first", "other")
    run_eval(world, tmp_path, "--models", *(f"{name}={world / name}" for name in names))
    assert alive == [[], [False]]


def test_an_adapter_alone_is_loaded_as_it_is(world, tmp_path, monkeypatch):
    loaded = loads(monkeypatch)
    run_eval(world, tmp_path, "--models", f"a={world / 'first'}", f"b={world / 'other'}")
    assert loaded == ["first", "other"]


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".x", "a b", "x\n"])
def test_names_are_names_of_folders(name):
    with pytest.raises(ValueError, match="`models` takes NAME=PATH"):
        named_values("models", [f"{name}=there"])


def test_names_are_given_once():
    with pytest.raises(ValueError, match="'Base' twice"):
        named_values("models", ["base=a", "Base=b"])
    with pytest.raises(ValueError, match="`models` is empty"):
        named_values("models", [])
    assert named_values("models", ["a=b=c"]) == {"a": "b=c"} and named_values("models", None) == {}


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (["--models", "a=gone/there/x"], r"a: `models` \(gone/there/x\) is no folder here"),
        (["--models", "a"], "`models` takes NAME=PATH"),
        (["--models", "a=x/y", "--paper_row", "BDHS, 6k"], "BDHS attention, 5k"),
        ([], "`model_name_or_path` is missing"),
        (
            ["--models", "a=x/y", "--model_name_or_path", "x/z"],
            r"`model_name_or_path` \(x/z\) would not be looked at beside `models`",
        ),
        (["--model_name_or_path", "x/y", "--image_folders", "poep=x"], "`image_folders`: unknown benchmark `poep`"),
    ],
)
def test_what_is_wrong_with_models_and_folders_is_named(world, tmp_path, flags, error):
    with pytest.raises((ValueError, OSError), match=error):
        run_eval(world, tmp_path, *flags)


def test_folders_of_other_settings_are_refused_before_a_model_is_loaded(world, tmp_path, monkeypatch):
    run_eval(world, tmp_path, "--models", f"a={world / 'base'}")
    loaded = loads(monkeypatch)
    for flags, name in (
        (["--models", f"a={world / 'base'}", "--max_new_tokens", 3], "max_new_tokens"),
        (["--models", f"a={world / 'other'}"], "weights"),
    ):
        with pytest.raises(ValueError, match=f"made with other settings: .*`{name}`"):
            run_eval(world, tmp_path, *flags)
    assert loaded == []
