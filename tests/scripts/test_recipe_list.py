from pathlib import Path

import pytest

from trl_mm.cli.main import main
from trl_mm.scripts.recipes import find_recipe, known_recipes


ROOT = Path(__file__).parents[2]
LORA = ROOT / "recipes" / "llava_v1.6_vicuna_7b" / "dpo_lora.yaml"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_every_recipe_is_listed_on_one_line(capsys):
    assert main(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    named = dict(line.split(maxsplit=1) for line in lines)
    assert len(named) == len(lines) == len(list((ROOT / "recipes").glob("*/*.yaml")))
    assert named["llava_v1.6_vicuna_7b/dpo_lora"].startswith("DPO with LoRA on the BDHS pairs")
    assert "accelerate/zero2" in named
    assert all(find_recipe(name) for name in named if not name.startswith("accelerate/"))


def test_recipes_of_the_working_directory_are_listed_too(tmp_path, capsys):
    (tmp_path / "recipes" / "mine").mkdir(parents=True)
    (tmp_path / "recipes" / "mine" / "dpo.yaml").write_bytes(b"# \xff of mine\n")
    (tmp_path / "recipes" / "mine" / "bare.yaml").write_text("beta: 0.1\n")
    assert main(["recipes"]) == 0
    out = capsys.readouterr().out
    assert "mine/dpo " in out and " of mine\n" in out and "mine/bare" in out
    assert known_recipes()["mine/dpo"] == tmp_path / "recipes" / "mine" / "dpo.yaml"


@pytest.mark.parametrize("name", ["llava_v1.6_vicuna_7b/dpo_lora", "recipes/llava_v1.6_vicuna_7b/dpo_lora.yaml"])
def test_one_is_shown_and_copied(name, tmp_path, capsys):
    assert main(["recipes", name]) == 0
    assert capsys.readouterr().out == LORA.read_text()
    assert main(["recipes", name, "--to", "a/mine.yaml"]) == 0
    assert (tmp_path / "a" / "mine.yaml").read_text() == LORA.read_text()
    assert "`--config a/mine.yaml`" in capsys.readouterr().out


def test_a_launch_configuration_is_copied(tmp_path, capsys):
    assert main(["recipes", "accelerate/zero2", "--to", "zero2.yaml"]) == 0
    assert "`--accelerate_config zero2.yaml`" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["llava_v1.6_vicuna_7b/dpo_lroa"], "the nearest are llava_v1.6_vicuna_7b/dpo_lora, "),
        (["../secrets"], "`trl-mm recipes` lists all"),
        (["shapes/dpo", "--to", "there.yaml"], "`--to there.yaml` is there"),
        (["shapes/dpo", "--to", "."], "is a folder: name a file in it, such as `dpo.yaml`"),
        (["shapes/dpo", "--to", "there.yaml/dpo.yaml"], "is there: name another"),
        (["--to", "x.yaml"], "needs the name of a recipe"),
    ],
)
def test_mistakes_are_one_line_and_change_nothing(words, said, tmp_path, capsys):
    (tmp_path / "there.yaml").write_text("kept")
    assert main(["recipes", *words]) == 2
    err = capsys.readouterr().err
    assert said in err and err.startswith("error: ") and err.count("\n") == 1
    assert (tmp_path / "there.yaml").read_text() == "kept"


def test_a_recipe_is_refused_as_a_setting(capsys):
    with pytest.raises(SystemExit):
        main(["recipes", "--config", "shapes/dpo"])
    assert "unrecognized arguments: --config" in capsys.readouterr().err
