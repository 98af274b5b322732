"""A killed run goes on from its last complete checkpoint as if nothing had happened."""

import errno
import json
from types import SimpleNamespace

import pytest
import torch
from peft import LoraConfig
from safetensors import SafetensorError
from safetensors.torch import load_file
from support.files import save_rows
from support.killed_training import start
from support.rows import said
from support.tiny import save_tiny, tiny_row

from trl_mm.trainer.checkpoints import (
    MARKER,
    _check_adapter,
    checkpoint_to_resume,
    complete_checkpoints,
    save_checkpoint,
)


FLAGS = (
    "--max_steps 6 --save_strategy steps --save_steps 2 --per_device_train_batch_size 2 --learning_rate 1e-2 "
    "--logging_steps 1 --use_cpu --bf16 false --report_to none --dtype float32 --gradient_checkpointing false "
    "--disable_tqdm true --resume_from_checkpoint true"
).split()
BDHS = json.dumps({"similarity": "lexical", "max_sentence_tokens": 4, "max_answer_tokens": 4})
REWARDS = "def total(completion_ids, **columns): return [float(sum(ids)) for ids in completion_ids]"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Model, rows and a reward function."""
    folder = tmp_path_factory.mktemp("resuming")
    save_tiny(folder / "model", scale=4)
    rows = [tiny_row(seed, rejected=said("There is a dog." * (1 + seed % 3))) for seed in range(5)]
    save_rows(folder / "pairs.jsonl", rows)
    (folder / "my_rewards.py").write_text(REWARDS)
    return folder


@pytest.mark.parametrize(
    ("command", "kills"),
    [
        (["dpo"], ["in step 4", "in the optimizer of checkpoint 4"]),
        (
            ["online-dpo", "--max_new_tokens", "4", "--reward_funcs", "my_rewards.total"]
            + ["--offline_probability", "0.5", "--save_total_limit", "1"],
            ["while checkpoint 2 is deleted"],
        ),
        pytest.param(
            ["dpo", "--bdhs", BDHS, "--save_total_limit", "1"],
            ["in the optimizer of checkpoint 4"],
            marks=pytest.mark.slow,
        ),
    ],
    ids=["pairs", "online", "bdhs"],
)
def test_a_killed_run_ends_as_the_undisturbed_one(folder, tmp_path, monkeypatch, command, kills):
    monkeypatch.chdir(folder)

    def run(name, kill=None):
        source = ["--model_name_or_path", "model", "--dataset_name", "pairs.jsonl"]
        return start([*command, *source, "--output_dir", str(tmp_path / name), *FLAGS], kill)

    def result(name):
        log = json.loads((tmp_path / name / "trainer_state.json").read_text())["log_history"]
        kept = ("step", "loss", "grad_norm", "learning_rate", "rewards/margins")
        steps = [{key: entry[key] for key in kept if key in entry} for entry in log if "loss" in entry]
        return steps, load_file(tmp_path / name / "model.safetensors")

    assert run("undisturbed") == 0
    assert [run("killed", kill) for kill in kills] == [-9] * len(kills)
    usable = 4 if "is deleted" in kills[-1] else 2
    assert [path.name for path in complete_checkpoints(tmp_path / "killed")] == [f"checkpoint-{usable}"]
    assert run("killed") == 0
    (steps, weights), (expected, expected_weights) = result("killed"), result("undisturbed")
    assert [step["step"] for step in steps] == [1, 2, 3, 4, 5, 6] and steps == expected
    before = load_file(folder / "model" / "model.safetensors")
    for name, value in expected_weights.items():
        assert torch.equal(weights[name], value), name
    assert max((value - before[name]).abs().max() for name, value in weights.items()) > 1e-2
    limit = 1 if "--save_total_limit" in command else 3
    assert len(list((tmp_path / "killed").glob("checkpoint-*"))) == limit


class Run:
    """A trainer as far as checkpoints are concerned."""

    def __init__(self, folder, **settings):
        known = {"save_total_limit": None, "should_save": True, "process_index": 0, "world_size": 1}
        self.args = SimpleNamespace(output_dir=str(folder), save_on_each_node=False, **{**known, **settings})
        self.accelerator = SimpleNamespace(is_main_process=True, wait_for_everyone=lambda: None)
        self.state = SimpleNamespace(best_model_checkpoint=None)
        self.last_checkpoint, self.folder, self.saved, self.model = None, folder, [], torch.nn.Linear(1, 1)

    def _get_output_dir(self, trial):
        return str(self.folder)

    def save(self, step, write=None):
        self.state.global_step = step

        def files():
            folder = self.folder / f"checkpoint-{step}"
            (folder / "global_step").mkdir(parents=True)
            for name in ("model.safetensors", "rng_state.pth", "global_step/shard_0"):
                (folder / name).write_text(f"{name} {step}")
            (folder / "trainer_state.json").write_text("{}")
            self.saved.append(step)
            if write is not None:
                write(folder)

        save_checkpoint(self, files)

    def resumes(self, wanted=True):
        return checkpoint_to_resume(self, wanted)

    def left(self):
        return sorted(path.name for path in self.folder.glob("checkpoint-*"))


@pytest.fixture
def saved(tmp_path):
    """A run with checkpoints 2 and 4."""
    run = Run(tmp_path)
    run.save(2)
    run.save(4)
    return run


@pytest.mark.parametrize("wanted", [True, "true", "True"])
def test_the_last_complete_checkpoint_is_taken(saved, wanted):
    assert saved.resumes(wanted) == str(saved.folder / "checkpoint-4")


def test_without_a_checkpoint_it_starts_from_the_beginning_and_says_so(tmp_path, caplog):
    assert Run(tmp_path / "new").resumes() is None
    assert f"No complete checkpoint in {tmp_path / 'new'} yet: training starts from the beginning" in caplog.text


@pytest.mark.parametrize("wanted", [None, False, "false"])
def test_a_start_beside_checkpoints_of_another_run_is_warned_of(saved, caplog, wanted):
    assert saved.resumes(wanted) is None
    assert "holds checkpoint-4 of an earlier run" in caplog.text.replace(f"{saved.folder}/", "")
    caplog.clear()
    assert Run(saved.folder / "other").resumes(wanted) is None and not caplog.text


def without_marker(folder):
    (folder / MARKER).unlink()


def torn_marker(folder):
    (folder / MARKER).write_text((folder / MARKER).read_text()[:20])


def lost_file(folder):
    (folder / "global_step" / "shard_0").unlink()


def short_file(folder):
    (folder / "model.safetensors").write_text("")


@pytest.mark.parametrize("damage", [without_marker, torn_marker, lost_file, short_file])
def test_a_broken_checkpoint_is_passed_over(saved, caplog, damage):
    damage(saved.folder / "checkpoint-4")
    assert saved.resumes() == str(saved.folder / "checkpoint-2")
    assert "checkpoint-4" in caplog.text and "passed over" in caplog.text


def test_what_a_process_does_not_see_is_not_taken(saved, monkeypatch):
    monkeypatch.setattr("trl_mm.trainer.checkpoints.gather_object", lambda names: [*names, ["checkpoint-2"]])
    assert saved.resumes() == str(saved.folder / "checkpoint-2")


def test_the_order_is_that_of_saving(saved):
    again = Run(saved.folder)
    again.save(2)
    assert again.resumes() == str(saved.folder / "checkpoint-2")


def test_a_folder_is_taken_if_it_is_complete(saved, caplog):
    path = str(saved.folder / "checkpoint-2")
    assert saved.resumes(path) == path and not caplog.text
    with pytest.raises(FileNotFoundError, match=r"nowhere\) is no folder\. .*It is checkpoint-4"):
        saved.resumes(str(saved.folder / "nowhere"))
    lost_file(saved.folder / "checkpoint-2")
    with pytest.raises(ValueError, match="checkpoint-2.* lacks files that complete.json names"):
        saved.resumes(path)
    without_marker(saved.folder / "checkpoint-2")
    (saved.folder / "checkpoint-2" / "trainer_state.json").write_text("{")
    with pytest.raises(ValueError, match="has no readable trainer_state.json"):
        saved.resumes(path)
    (saved.folder / "checkpoint-2" / "trainer_state.json").write_text("{}")
    assert saved.resumes(path) == path
    assert "has no complete.json: another program wrote it" in caplog.text


def test_other_processes_and_models_only_are_warned_of(saved, caplog):
    Run(saved.folder, world_size=2).resumes()
    assert "was saved by 1 processes, this run has 2" in caplog.text
    saved.save(6, write=lambda folder: (folder / "rng_state.pth").unlink())
    saved.resumes()
    assert "checkpoint-6 holds the model only" in caplog.text


def test_the_limit_counts_broken_checkpoints_first(tmp_path):
    run = Run(tmp_path, save_total_limit=2)
    run.save(2)
    run.save(4)
    without_marker(tmp_path / "checkpoint-4")
    run.save(6)
    assert run.left() == ["checkpoint-2", "checkpoint-6"] and run.args.save_total_limit == 2
    run.state.best_model_checkpoint = str(tmp_path / "checkpoint-2")
    run.save(8)
    assert run.left() == ["checkpoint-2", "checkpoint-8"]
    assert [path.name for path in complete_checkpoints(tmp_path)] == run.left()


def test_older_checkpoints_stay_until_the_new_one_is_complete(tmp_path):
    run = Run(tmp_path, save_total_limit=1)
    run.save(2)
    run.save(4, write=lambda folder: run.saved.append((run.left(), run.args.save_total_limit)))
    assert run.saved == [2, 4, (["checkpoint-2", "checkpoint-4"], None)] and run.left() == ["checkpoint-4"]


def test_a_step_that_is_saved_is_not_saved_again(saved):
    saved.save(4)
    resumed = Run(saved.folder)
    resumed.resumes()
    resumed.save(4)
    assert saved.saved == [2, 4] and resumed.saved == []
    resumed.resumes(str(saved.folder / "checkpoint-2"))
    resumed.save(4)
    assert resumed.saved == [4]


def test_what_a_killed_run_left_is_no_part_of_a_checkpoint(tmp_path):
    stale = tmp_path / "checkpoint-2" / "global_step" / "shard_1"
    stale.parent.mkdir(parents=True)
    stale.touch()
    Run(tmp_path).save(2)
    assert not stale.exists() and len(complete_checkpoints(tmp_path)) == 1


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"),  # torch.save
    ],
    ids=["space", "quota", "safetensors", "torch"],
)
def test_a_full_disk_leaves_the_checkpoint_before(saved, error):
    def fail(folder):
        raise error

    with pytest.raises(OSError, match=r"checkpoint-6 could not be written.*checkpoint-4 is complete\. Make room") as e:
        saved.save(6, write=fail)
    assert e.value.__cause__ is error and "--resume_from_checkpoint true" in str(e.value)
    assert saved.left() == ["checkpoint-2", "checkpoint-4"] and saved.resumes().endswith("checkpoint-4")
    assert saved.args.save_total_limit is None


def test_other_errors_while_saving_stay_what_they_are(saved):
    def fail(folder):
        raise RuntimeError("CUDA error")

    with pytest.raises(RuntimeError, match="^CUDA error$"):
        saved.save(6, write=fail)
    assert saved.resumes().endswith("checkpoint-4")


@pytest.mark.parametrize(
    ("saved", "wrong"), [({"r": 4}, "r=4, .* r=2"), ({"lora_alpha": 8}, "lora_alpha=8, .* lora_alpha=16")]
)
def test_adapters_of_other_settings_are_refused(tmp_path, saved, wrong):
    config = LoraConfig(r=2, lora_alpha=16)
    config.save_pretrained(tmp_path)
    _check_adapter(tmp_path, config)
    stored = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps({**stored, **saved}))
    with pytest.raises(ValueError, match=f"holds adapters with {wrong}"):
        _check_adapter(tmp_path, config)
