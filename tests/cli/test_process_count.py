import pytest
from hypothesis import given
from hypothesis import strategies as st

from trl_mm.cli import launch, process_count
from trl_mm.cli.process_count import accumulation, explanation, fitting_count


DDP = {"distributed_type": "MULTI_GPU", "num_machines": 1, "num_processes": 8}
SOURCE = ["--dataset_name", "x", "--output_dir", "y"]


@pytest.mark.parametrize(
    ("config", "flags", "num_gpus", "count"),
    [
        (DDP, {}, 3, 3),
        (DDP, {}, 0, 1),
        (DDP, {}, 8, None),
        (DDP, {}, 16, None),
        (DDP, {"num_processes": 8}, 3, None),  # what the user says wins
        (DDP, {"num_machines": 2}, 3, None),
        ({**DDP, "num_machines": 2, "num_processes": 16}, {}, 8, None),
        ({**DDP, "distributed_type": "DEEPSPEED"}, {}, 1, 1),
        ({**DDP, "distributed_type": "FSDP"}, {}, 1, 1),
        ({**DDP, "distributed_type": "MULTI_CPU"}, {}, 0, None),
        ({**DDP, "use_cpu": True}, {}, 0, None),
        ({"distributed_type": "NO", "num_processes": 1}, {}, 0, None),
    ],
)
def test_a_launch_takes_the_gpus_that_there_are(config, flags, num_gpus, count):
    assert fitting_count(config, flags, num_gpus) == count


@given(steps=st.integers(1, 64), before=st.integers(2, 16), after=st.integers(1, 15))
def test_the_step_has_as_many_rows_as_can_be(steps, before, after):
    after = min(after, before - 1)
    batches = accumulation({"gradient_accumulation_steps": steps}, [], before, after)
    assert abs(batches * after - steps * before) <= after / 2
    if steps * before % after == 0:
        assert batches * after == steps * before


def test_what_the_user_accumulates_stays():
    settings = {"gradient_accumulation_steps": 4}
    for flag in ("--gradient_accumulation_steps", "--gradient-accumulation-steps=4"):
        assert accumulation(settings, [flag, "4"], 8, 1) is None
    assert accumulation({}, [], 8, 1) is None  # a command that does not train


def test_the_change_is_said():
    settings = {"gradient_accumulation_steps": 4, "per_device_train_batch_size": 2}
    assert explanation(settings, 8, 1, 0, 32) == (
        "GPUs visible: 0; processes: 1 in place of 8, `gradient_accumulation_steps`: 32 in place of 4 (64 rows in a "
        "step as before). `--num_processes` sets another number."
    )
    assert "11 in place of 4 (66 rows in a step in place of 64)" in explanation(settings, 8, 3, 3, 11)
    assert explanation({}, 8, 3, 3, None) == (
        "GPUs visible: 3; processes: 3 in place of 8. `--num_processes` sets another number."
    )


@pytest.fixture
def launched(monkeypatch):
    """What was handed to `accelerate launch`, on a machine with two GPUs."""
    seen = []
    monkeypatch.setattr("accelerate.commands.launch.launch_command", seen.append)
    monkeypatch.setattr(process_count, "visible_gpus", lambda: 2)
    return seen


def test_the_lora_recipe_keeps_its_batch_on_two_gpus(launched, capsys):
    recipe = ["--config", "llava_v1.6_vicuna_7b/dpo_lora"]
    launch.run("dpo", "trl_mm.scripts.dpo", recipe)
    assert launched[0].num_processes == 2
    assert launched[0].training_script_args == [*recipe, "--gradient_accumulation_steps", "16"]
    assert "processes: 2 in place of 8" in capsys.readouterr().err

    launch.run("dpo", "trl_mm.scripts.dpo", [*recipe, "--num_processes", "8"])
    assert (launched[1].num_processes, launched[1].training_script_args) == (8, recipe)
    assert capsys.readouterr().err == ""

    launch.run("dpo", "trl_mm.scripts.dpo", [*recipe, "--use_cpu", "true", "--bf16", "false"])
    assert launched[2].num_processes == 1
    assert launched[2].training_script_args[-2:] == ["--gradient_accumulation_steps", "32"]


def test_a_command_that_does_not_train_is_only_started_less_often(launched):
    flags = [*SOURCE, "--model_name_or_path", "me/model", "--accelerate_config", "ddp"]
    launch.run("bdhs", "trl_mm.scripts.bdhs", flags)
    assert (launched[0].num_processes, launched[0].training_script_args) == (2, flags)


def test_a_dry_run_says_what_would_be_launched(monkeypatch):
    from trl_mm.scripts import dpo

    seen = []
    monkeypatch.setattr(dpo, "main", lambda argv, launch: seen.append((launch["num_processes"], argv)))
    for num_gpus, processes, more in ((2, 2, ["--gradient_accumulation_steps", "16"]), (0, 8, [])):
        monkeypatch.setattr(process_count, "visible_gpus", lambda num_gpus=num_gpus: num_gpus)
        launch.run("dpo", "trl_mm.scripts.dpo", ["--config", "llava_v1.6_vicuna_7b/dpo_lora", "--dry_run"])
        assert seen[-1][0] == processes
        assert seen[-1][1][3:] == [*more, "--use_cpu", "true"]
