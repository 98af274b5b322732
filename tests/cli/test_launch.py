import json
import signal
import sys
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from torch.distributed.elastic.multiprocessing.api import SignalException

from trl_mm.cli.launch import find_accelerate_config, run


ACCELERATE = Path(__file__).parents[2] / "recipes" / "accelerate"

# Each process leaves a file with what it was given.
SCRIPT = """
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from trl import TrlParser


@dataclass
class Arguments:
    size: int = 1
    accelerate_config: str | None = None


def make_parser():
    return TrlParser(Arguments)


def main(argv=None):
    (arguments,) = make_parser().parse_args_and_config(argv)
    rank, world = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    seen = [arguments.size, int(world), os.environ["ACCELERATE_MIXED_PRECISION"], os.environ["COLOUR"]]
    Path(f"seen{rank}.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    main()
"""


@pytest.fixture
def script(tmp_path, monkeypatch):
    (tmp_path / "launched_script.py").write_text(SCRIPT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("COLOUR", "none")  # so that what a launch sets is gone after the test
    yield tmp_path
    sys.modules.pop("launched_script", None)


@pytest.mark.parametrize(
    ("name", "kind", "processes"),
    [
        ("single_gpu", "NO", 1),
        ("ddp", "MULTI_GPU", 8),
        ("fsdp2", "FSDP", 8),
        ("zero1", "DEEPSPEED", 8),
        ("zero2", "DEEPSPEED", 8),
        ("zero3", "DEEPSPEED", 8),
        ("zero3_offload", "DEEPSPEED", 8),
        ("zero3_two_nodes", "DEEPSPEED", 16),
    ],
)
def test_accelerate_reads_our_configs(name, kind, processes):
    path = find_accelerate_config(name)
    config = load_config_from_file(str(path))
    assert (config.distributed_type.value, config.num_processes) == (kind, processes)
    assert config.deepspeed_config.get("zero_stage") == (int(name[4]) if name.startswith("zero") else None)
    assert config.num_machines == (2 if name == "zero3_two_nodes" else 1)
    text = path.read_text()
    assert f"--accelerate_config {name}" in text and "# Hardware: " in text


def test_all_configs_are_tested():
    # Launched here or in tests/distributed
    launched = {"single_gpu", "ddp", "fsdp2", "zero1", "zero2", "zero3", "zero3_offload", "zero3_two_nodes"}
    assert {path.stem for path in ACCELERATE.glob("*.yaml")} == launched


def test_a_config_is_found_by_path_and_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_accelerate_config(str(ACCELERATE / "ddp.yaml")) == ACCELERATE / "ddp.yaml"
    assert find_accelerate_config("zero2") == ACCELERATE / "zero2.yaml"
    own = tmp_path / "recipes" / "accelerate" / "zero2.yaml"
    own.parent.mkdir(parents=True)
    own.touch()
    assert find_accelerate_config("zero2") == own  # the user's own comes first
    assert find_accelerate_config("zero3") == ACCELERATE / "zero3.yaml"


def test_an_unknown_config_names_the_nearest():
    with pytest.raises(ValueError, match="`zero22`, did you mean `zero2`.; known: ddp, fsdp2, single_gpu, zero1"):
        find_accelerate_config("zero22")


def test_the_recipe_picks_the_launch(script):
    (script / "recipe.yaml").write_text("accelerate_config: single_gpu\nsize: 2\nenv:\n  COLOUR: red\n")
    run("resize", "launched_script", ["--config", "recipe.yaml", "--size", "3"])
    assert json.loads((script / "seen0.json").read_text()) == [3, 1, "bf16", "red"]


def test_null_takes_back_the_launch_of_a_recipe(script, monkeypatch):
    (script / "recipe.yaml").write_text("accelerate_config: ddp\n")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "unset")
    run("resize", "launched_script", ["--config", "recipe.yaml", "--accelerate_config", "null"])
    assert json.loads((script / "seen0.json").read_text()) == [1, 1, "unset", "none"]


def test_the_flags_say_which_of_several_machines_this_is(script, monkeypatch):
    seen = []
    monkeypatch.setattr("accelerate.commands.launch.launch_command", seen.append)
    flags = ["--accelerate_config", "zero3_two_nodes", "--machine_rank", "1", "--main_process_ip", "10.0.0.7"]
    run("resize", "launched_script", [*flags, "--main-process-port=29511", "--size", "2"])
    assert (seen[0].machine_rank, seen[0].main_process_ip, seen[0].main_process_port) == (1, "10.0.0.7", 29511)
    assert seen[0].training_script_args == ["--accelerate_config", "zero3_two_nodes", "--size", "2"]
    with pytest.raises(ValueError, match="`--machine_rank 1` needs `--accelerate_config`"):
        run("resize", "launched_script", ["--machine_rank", "1", "--size", "2"])


@pytest.mark.parametrize(
    ("words", "precision"),
    [([], None), (["--bf16", "false"], "no"), (["--fp16", "true"], "fp16"), (["--bf16", "true"], None)],
)
def test_half_precision_is_that_of_recipe_and_flags(words, precision, monkeypatch):
    seen = []
    monkeypatch.setattr("accelerate.commands.launch.launch_command", seen.append)
    source = ["--dataset_name", "x", "--output_dir", "y", "--accelerate_config", "zero3"]
    run("dpo", "trl_mm.scripts.dpo", [*source, *words])
    assert seen[0].mixed_precision == precision  # `None`: that of the config


def test_ctrl_c_in_a_launch_is_that_of_the_command(script, monkeypatch):
    def stopped(arguments):
        raise SignalException("Process got signal: 2", signal.SIGINT)

    monkeypatch.setattr("accelerate.commands.launch.launch_command", stopped)
    with pytest.raises(KeyboardInterrupt):
        run("resize", "launched_script", ["--accelerate_config", "single_gpu"])


@pytest.mark.distributed
def test_an_error_in_a_launched_process_is_one_line(tmp_path, capfd):
    flags = ["--accelerate_config", "ddp", "--num_processes", "1", "--main_process_port", "0"]
    model = ["--model_name_or_path", "/gone/model", "--dataset_name", "x", "--output_dir", str(tmp_path)]
    with pytest.raises(SystemExit) as ended:
        run("dpo", "trl_mm.scripts.dpo", [*flags, *model, "--bf16", "false", "--use_cpu"])
    shown = capfd.readouterr().err
    assert ended.value.code == 2 and "Traceback" not in shown and "failed (exitcode" not in shown
    assert shown.count("error: `model_name_or_path` (/gone/model) is no folder here") == 1


@pytest.mark.distributed
def test_the_flags_pick_launch_and_processes(script):
    run("resize", "launched_script", ["--accelerate-config=ddp", "--num-processes", "2", "--size", "2"])
    for rank in range(2):
        assert json.loads((script / f"seen{rank}.json").read_text()) == [2, 2, "bf16", "none"]
