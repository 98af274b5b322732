import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pytest
from huggingface_hub.utils import filter_repo_objects
from support.launching import REPOSITORY
from support.tiny import tiny_model
from transformers import Trainer, TrainingArguments

from trl_mm.cli import main as cli
from trl_mm.scripts.output_lock import LOCK, alone_in


# Says when it is in the folder, and leaves it when it is told to
OTHER_RUN = """
import sys
from trl_mm.scripts.output_lock import {context}
with {call}:
    print("in", flush=True)
    sys.stdin.read()
"""


@contextmanager
def other_run(call):
    """A process in an `alone_in(...)` or `lock(...)`."""
    code = OTHER_RUN.format(context=call.partition("(")[0], call=call)
    process = subprocess.Popen(
        [sys.executable, "-c", "from pathlib import Path\n" + code],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "in\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_second_run_is_refused_until_the_first_is_killed(tmp_path):
    folder = tmp_path / "out"
    with other_run(f"alone_in(output_dir={str(folder)!r})") as first:
        with pytest.raises(
            BlockingIOError, match=rf"`output_dir` \(.*out\) is in use by process {first.pid} on \S+: "
        ):
            with alone_in(output_dir=str(folder)):
                pytest.fail("two runs in one folder")
        first.kill()
        first.wait()
        assert (folder / LOCK).exists(), "a killed run leaves the file, which locks nothing"
        with alone_in(output_dir=str(folder)):
            assert json.loads((folder / LOCK).read_text())["pid"] == os.getpid()
    assert list(folder.iterdir()) == []


def test_a_run_that_ends_lets_the_next_one_in_and_leaves_its_files_only(tmp_path):
    with other_run(f"alone_in(output_dir={str(tmp_path)!r})") as first:
        first.communicate("")
    with alone_in(output_dir=str(tmp_path), bdhs_save_to=str(tmp_path / "pairs"), nothing=None):
        (tmp_path / "pairs" / "shard").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["pairs", "shard"]


def test_one_folder_may_have_two_names(tmp_path):
    with alone_in(output_dir=str(tmp_path), bdhs_save_to=f"{tmp_path}/../{tmp_path.name}"):
        pass


def test_all_folders_of_a_run_are_locked_or_none(tmp_path):
    with other_run(f"alone_in(output_dir={str(tmp_path / 'pairs')!r})"):
        assert not (tmp_path / "out").exists()
        with pytest.raises(BlockingIOError, match="`bdhs_save_to` .* is in use by process"):
            with alone_in(output_dir=str(tmp_path / "out"), bdhs_save_to=str(tmp_path / "pairs")):
                pytest.fail("two runs in one folder")
        assert not (tmp_path / "out").exists()


def test_an_error_in_the_run_releases_the_folder(tmp_path):
    for _ in range(2):
        with pytest.raises(ValueError, match="of the run"):
            with alone_in(output_dir=str(tmp_path)):
                raise ValueError("of the run")
    assert list(tmp_path.iterdir()) == []


# Every command with an output folder, with what it needs to get as far as that
COMMANDS = {
    "dpo": ["--model_name_or_path", "me/model", "--dataset_name", "x", "--bf16", "false", "--use_cpu"],
    "online-dpo": ["--model_name_or_path", "me/model", "--dataset_name", "x", "--bf16", "false", "--use_cpu"],
    "bdhs": ["--model_name_or_path", "me/model", "--dataset_name", "x"],
    "eval": ["--model_name_or_path", "me/model", "--annotations", "x", "--image_folder", "x"],
    "judge": ["--model_name_or_path", "me/model", "--dataset_name", "x"],
    "convert": ["x"],
    "merge": ["--model_name_or_path", "me/model"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_refuses_a_folder_in_use(command, tmp_path, capsys):
    path = tmp_path / (".out.lock" if command == "merge" else f"out/{LOCK}")
    path.parent.mkdir(exist_ok=True)
    with other_run(f"lock(Path({str(path)!r}), 'it')") as first:
        assert cli.main([command, *COMMANDS[command], "--output_dir", str(tmp_path / "out")]) == 2
    shown = capsys.readouterr().err.splitlines()[-1]
    assert shown.startswith("error: `output_dir`") and f"is in use by process {first.pid} on " in shown


@pytest.mark.parametrize("command", COMMANDS)
def test_an_output_folder_that_is_a_file_is_one_line(command, tmp_path, capsys):
    (tmp_path / "file").touch()
    for name in ("file", "file/out"):
        assert cli.main([command, *COMMANDS[command], "--output_dir", str(tmp_path / name)]) == 2
        shown = capsys.readouterr().err.splitlines()[-1]
        assert shown.startswith(f"error: `output_dir` ({tmp_path / name})") and "folder" in shown


def test_a_folder_that_cannot_be_written_to_is_one_line(tmp_path, monkeypatch):
    def open_(path, *args, **kwargs):
        raise PermissionError(13, "Permission denied", str(path)) if Path(path).name == LOCK else AssertionError(path)

    monkeypatch.setattr(os, "open", open_)
    with pytest.raises(OSError, match=r"`output_dir` \(.*\) cannot be used: .*Permission denied.*can be written to"):
        with alone_in(output_dir=str(tmp_path)):
            pytest.fail("it cannot be locked")


def test_the_lock_is_not_pushed_to_the_hub_with_a_model(tmp_path, monkeypatch):
    """It names the host. Which files are left out is what transformers asks of the Hub's client."""
    hub = mock.MagicMock()
    monkeypatch.setattr("transformers.trainer.hf_api", lambda: hub, raising=False)
    monkeypatch.setattr("transformers.trainer.upload_folder", hub.upload_folder, raising=False)  # before 5.24
    trainer = Trainer(tiny_model(), TrainingArguments(str(tmp_path), report_to="none", use_cpu=True))
    trainer.hub_model_id = "me/model"
    monkeypatch.setattr(trainer, "create_model_card", lambda **kwargs: None)
    trainer.push_to_hub()
    ignored = hub.upload_folder.call_args.kwargs["ignore_patterns"]
    assert list(filter_repo_objects([LOCK, "model.safetensors"], ignore_patterns=ignored)) == ["model.safetensors"]
