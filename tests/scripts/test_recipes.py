import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from trl_mm.scripts.merge import make_parser
from trl_mm.scripts.recipes import find_recipe


ROOT = Path(__file__).parents[2]
LORA = ROOT / "recipes" / "llava_v1.6_vicuna_7b" / "dpo_lora.yaml"


@pytest.mark.parametrize(
    "name",
    [
        "llava_v1.6_vicuna_7b/dpo_lora",
        "llava_v1.6_vicuna_7b/dpo_lora.yaml",
        "recipes/llava_v1.6_vicuna_7b/dpo_lora.yaml",
        str(LORA),
    ],
)
def test_a_recipe_is_found_by_name_and_by_path(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_recipe(name) == LORA


def test_a_local_file_wins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "recipes" / "llava_v1.6_vicuna_7b" / "dpo_lora.yaml"
    own.parent.mkdir(parents=True)
    own.touch()
    assert find_recipe("llava_v1.6_vicuna_7b/dpo_lora") == own  # among folders of recipes, the user's own comes first
    exact = tmp_path / "llava_v1.6_vicuna_7b" / "dpo_lora"
    exact.parent.mkdir()
    exact.touch()
    assert find_recipe("llava_v1.6_vicuna_7b/dpo_lora") == exact.relative_to(tmp_path)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("llava_v1.6_vicuna_7b/dpo_lroa", "the nearest are llava_v1.6_vicuna_7b/dpo_lora, "),
        ("dpo_lora.yaml", "llava_v1.6_34b/dpo_lora"),
        ("zzz", "shapes/dpo"),
    ],
)
def test_an_unknown_name_lists_the_nearest(name, near, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError) as refused:
        find_recipe(name)
    assert str(refused.value).startswith(f"`--config {name}`: no such file (looked in `{tmp_path}`)")
    assert near in str(refused.value) and "accelerate" not in str(refused.value)


def test_every_parser_finds_a_recipe_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = tmp_path / "recipes" / "mine" / "merge.yaml"
    recipe.parent.mkdir(parents=True)
    recipe.write_text("model_name_or_path: me/adapter\noutput_dir: merged\n")
    (args,) = make_parser().parse_args_and_config(["--config", "mine/merge"], fail_with_unknown_args=True)
    assert args.output_dir == "merged"


def test_the_wheel_holds_the_recipes(tmp_path):
    """The package and what the wheel puts into it, laid out as pip does it, away from the checkout."""
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    site = tmp_path / "site-packages"
    for name in wheel["packages"]:
        shutil.copytree(ROOT / name, site / name)
    for source, target in wheel["force-include"].items():
        shutil.copytree(ROOT / source, site / target)
    code = (
        "from trl_mm.cli.launch import find_accelerate_config\n"
        "from trl_mm.scripts.recipes import find_recipe\n"
        "print(find_recipe('recipes/qwen2.5_vl_7b/bdhs.yaml'))\n"
        "print(find_recipe('shapes/dpo'))\n"
        "print(find_accelerate_config('zero2'))\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    names = ("qwen2.5_vl_7b/bdhs.yaml", "shapes/dpo.yaml", "accelerate/zero2.yaml")
    assert found == [str(site / "trl_mm" / "recipes" / name) for name in names]
