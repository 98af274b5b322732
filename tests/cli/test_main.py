import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from trl_mm.cli import main as cli
from trl_mm.cli.launch import find_script
from trl_mm.scripts import errors as explained


ROOT = Path(__file__).parents[2]

# A script as `trl_mm.scripts` has them; `fail` picks what goes wrong in it.
SCRIPT = """
import json
from dataclasses import dataclass

from trl import TrlParser


@dataclass
class Arguments:
    size: int = 1
    fail: str | None = None
    accelerate_config: str | None = None


def make_parser():
    return TrlParser(Arguments)


def main(argv=None):
    (arguments,) = make_parser().parse_args_and_config(argv)
    if arguments.fail == "own":
        raise ValueError("`size` is wrong.")
    if arguments.fail == "training arguments":
        from transformers import TrainingArguments

        TrainingArguments(load_best_model_at_end=True, save_strategy="steps", eval_strategy="no")
    if arguments.fail == "foreign":
        json.loads("{")
    print("size", arguments.size)
"""


@pytest.fixture
def script(tmp_path, monkeypatch):
    """The command `resize`, whose script counts as a module of ours."""
    (tmp_path / "resize_script.py").write_text(SCRIPT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(cli.COMMANDS, "resize", ("resize_script", "a test"))
    monkeypatch.setattr(explained, "EXPLAINING_MODULES", (*explained.EXPLAINING_MODULES, "resize_script"))
    yield tmp_path
    sys.modules.pop("resize_script", None)


@pytest.mark.parametrize("flag", ["--help", "--version", None])
def test_answers_without_heavy_imports(flag):
    code = (
        "import sys\n"
        "from trl_mm.cli.main import main\n"
        "try:\n"
        f"    main({[flag] if flag else []})\n"
        "finally:\n"
        "    print('HEAVY', {'torch', 'transformers', 'trl', 'datasets', 'accelerate'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    answer, heavy = done.stdout.split("HEAVY ")
    assert heavy.strip() == "set()"
    if flag == "--version":
        version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
        assert answer == f"trl-mm {version}\n"
    else:
        for name, (_, text) in cli.COMMANDS.items():
            assert f"  {name} " in answer and text in answer
        assert "TRL_MM_TRACEBACK" in answer


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_script_keeps_the_contract(name):
    module = find_script(cli.COMMANDS[name][0])
    assert callable(module.main)
    if name in ("env", "recipes"):  # neither is configured by a recipe
        assert not hasattr(module.make_parser(), "dataclass_types")
        return
    # A key of the recipe and a flag that `--help` shows, so the script's parser has to know it.
    known = "accelerate_config" in {action.dest for action in module.make_parser()._actions}
    alone = name.startswith("bench") or name in ("convert", "merge", "report", "score")
    assert known != alone, "these run in one process"


def test_unknown_command_names_the_nearest(capsys):
    assert cli.main(["dpoo"]) == 2
    known = ", ".join(sorted(cli.COMMANDS))
    assert {"bdhs", "convert", "corrupt", "dpo", "eval", "reward", "score"} <= set(cli.COMMANDS)
    assert capsys.readouterr().err == f"error: unknown command `dpoo`, did you mean `dpo`?; known: {known}.\n"


def test_unknown_flag_before_the_command(capsys):
    with pytest.raises(SystemExit) as exit:
        cli.main(["--verison"])
    assert exit.value.code == 2
    assert "--verison" in capsys.readouterr().err


def test_flags_override_the_recipe(script, capsys):
    (script / "recipe.yaml").write_text("size: 2\n")
    assert cli.main(["resize"]) == 0
    assert cli.main(["resize", "--config", "recipe.yaml"]) == 0
    assert cli.main(["resize", "--config=recipe.yaml", "--size", "3"]) == 0
    assert capsys.readouterr().out == "size 1\nsize 2\nsize 3\n"


def test_our_error_is_one_line(script, capsys):
    assert cli.main(["resize", "--fail", "own"]) == 2
    assert capsys.readouterr().err == "error: `size` is wrong.\n"


def test_an_error_in_training_arguments_is_one_line(script, capsys):
    assert cli.main(["resize", "--fail", "training arguments"]) == 2
    assert capsys.readouterr().err.startswith("error: --load_best_model_at_end")


def test_our_error_has_a_traceback_on_request(script, monkeypatch):
    monkeypatch.setenv("TRL_MM_TRACEBACK", "1")
    with pytest.raises(ValueError, match="`size` is wrong"):
        cli.main(["resize", "--fail", "own"])


def test_an_error_from_elsewhere_keeps_its_traceback(script):
    with pytest.raises(ValueError, match="Expecting property name"):
        cli.main(["resize", "--fail", "foreign"])


def test_help_of_a_command_names_it(script, capsys):
    with pytest.raises(SystemExit) as exit:
        cli.main(["resize", "--help"])
    out = capsys.readouterr().out
    assert exit.value.code == 0
    assert out.startswith("usage: trl-mm resize --config recipe.yaml") and "--size" in out


def test_unknown_flag_of_a_command_is_refused(script, capsys):
    with pytest.raises(SystemExit) as exit:
        cli.main(["resize", "--colour", "red"])
    assert exit.value.code == 2
    assert "trl-mm resize: error: unrecognized arguments: --colour red" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("sise: 2\n", "error: `recipe.yaml`: unknown key `sise`, did you mean `size`?"),
        ("2: 2\n", "error: `recipe.yaml`: unknown key `2`"),
        ("size: [2\n", "error: `recipe.yaml` is not valid YAML: while parsing a flow sequence"),
        ("- size\n", "error: `recipe.yaml` must hold `key: value` lines, got a list."),
        (None, "error: `--config recipe.yaml`: no such file"),
    ],
)
def test_bad_recipe_is_one_line(script, capsys, text, error):
    if text is not None:
        (script / "recipe.yaml").write_text(text)
    assert cli.main(["resize", "--config", "recipe.yaml"]) == 2
    err = capsys.readouterr().err
    assert err.startswith(error) and err.count("\n") == 1


def test_processes_need_an_accelerate_config(script, capsys):
    assert cli.main(["resize", "--num_processes", "2"]) == 2
    assert "`--num_processes 2` needs `--accelerate_config`" in capsys.readouterr().err


def test_what_the_user_wrote_wrong_is_all_that_is_said(tmp_path):
    """In a process of its own, as packages speak when they are imported."""
    words = ["-m", "trl_mm.cli.main", "dpo", "--dataset_name", "x", "--output_dir", str(tmp_path), "--bf16", "false"]
    done = subprocess.run([sys.executable, *words, "--model_name_or_path", "/gone"], capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: `model_name_or_path` (/gone)") and done.stderr.count("\n") == 1


@pytest.mark.parametrize(("words", "said"), [([], "Stopped."), (["How far it came."], "How far it came.")])
def test_ctrl_c_is_one_line(script, capsys, monkeypatch, words, said):
    def stopped(*args):
        raise KeyboardInterrupt(*words)

    monkeypatch.setattr(cli, "run", stopped)
    assert cli.main(["resize"]) == 130
    assert capsys.readouterr().err == f"\n{said}\n"
