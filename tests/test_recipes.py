"""Every recipe is found by its path and read by the parser of its command."""

import re
import shlex
from dataclasses import MISSING, fields
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from trl import SFTConfig, TrlParser

from trl_mm.cli.main import COMMANDS


ROOT = Path(__file__).parents[1]
RECIPES = sorted(path for path in (ROOT / "recipes").rglob("*.yaml") if path.parent.name != "accelerate")
IDS = [str(path.relative_to(ROOT / "recipes")) for path in RECIPES]


def test_all_recipes_are_found():
    """A recipe that is added changes these numbers, so none can be left out unseen."""
    found = {
        folder: sum(path.parent.name == folder for path in RECIPES) for folder in {p.parent.name for p in RECIPES}
    }
    assert found == {
        "llava_v1.6_34b": 8,
        "llava_v1.6_mistral_7b": 7,
        "llava_v1.6_vicuna_13b": 7,
        "llava_v1.6_vicuna_7b": 8,
        "qwen2.5_vl_7b": 2,
        "shapes": 9,
    }


def command_of(path):
    """The command line in the comment at the top of a recipe, as words."""
    head = []
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            break
        head.append(line.removeprefix("#").strip())
    (line,) = (line for line in head if re.match(r"(trl-mm|python|accelerate) ", line))
    return shlex.split(line)


def parser_of(path, monkeypatch):
    program, name, *_ = command_of(path)
    if program == "trl-mm":
        return import_module(COMMANDS[name][0]).make_parser()
    script = ROOT / name
    monkeypatch.syspath_prepend(script.parent)
    return TrlParser((import_module(script.stem).SFTArguments, SFTConfig))


def parsed(path, parser, arguments):
    required = {
        item.name
        for kind in parser.dataclass_types
        for item in fields(kind)
        if item.init and item.default is MISSING and item.default_factory is MISSING
    }
    given = {word.removeprefix("--") for word in arguments if word.startswith("--")}
    assert required <= given | set(yaml.safe_load(path.read_text())), "the command line lacks what is required"
    cpu = (
        ["--use_cpu"]
        if any(item.name == "use_cpu" for kind in parser.dataclass_types for item in fields(kind))
        else []
    )
    return parser.parse_args_and_config([*arguments, *cpu], fail_with_unknown_args=True)


@pytest.mark.parametrize("path", RECIPES, ids=IDS)
def test_the_command_line_in_its_head_is_read_by_the_parser(path, monkeypatch, tmp_path):
    words = command_of(path)
    monkeypatch.chdir(ROOT)
    assert words[words.index("--config") + 1] == str(path.relative_to(ROOT)), "the command names the file itself"
    parser = parser_of(path, monkeypatch)
    groups = parsed(path, parser, [*words[2:], "--output_dir", str(tmp_path / "out")])
    settings = {item.name: getattr(group, item.name) for group in groups for item in fields(group)}
    for key, value in yaml.safe_load(path.read_text()).items():
        if key not in ("env", "report_to", "output_dir"):  # transformers makes a list of `report_to`
            assert settings[key] == value, key


@pytest.mark.parametrize("path", RECIPES, ids=IDS)
def test_the_head_says_what_it_is_and_the_hardware(path):
    first, *rest = path.read_text().splitlines()
    assert first.startswith("# ") and first.endswith(".")
    assert any(re.match(r"# Hardware: .*(run|not run)\b", line) for line in rest[:4])


@pytest.mark.parametrize("path", RECIPES, ids=IDS)
def test_a_mistyped_key_is_refused_and_named(path, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    words, parser = command_of(path), parser_of(path, monkeypatch)
    *_, key = yaml.safe_load(path.read_text())
    wrong = tmp_path / path.name
    wrong.write_text(re.sub(rf"^{key}:", f"{key}x:", path.read_text(), flags=re.MULTILINE))
    words[words.index("--config") + 1] = str(wrong)
    message = f"unknown key `{key}x`, did you mean `{key}`" if words[0] == "trl-mm" else f"{key}x"
    with pytest.raises(ValueError, match=message):
        parsed(wrong, parser, words[2:])
