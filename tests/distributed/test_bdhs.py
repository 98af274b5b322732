"""`trl-mm bdhs` killed or out of disk, in one process or two, ends with the dataset of an undisturbed run.

What is unusual in it: a start takes 10 seconds, so two processes are started for few of the cases.
"""

import json
import signal
import sys
from pathlib import Path

import pytest
from support.files import save_rows
from support.launching import accelerate, run_together
from support.tiny import save_tiny, tiny_row

from trl_mm.scripts.bdhs import main


pytestmark = pytest.mark.distributed

SECONDS = 120


@pytest.fixture(scope="module")
def flags(tmp_path_factory):
    """All flags but `--output_dir`: seven rows in shards of two."""
    folder = tmp_path_factory.mktemp("world")
    save_tiny(folder / "model", scale=4)
    save_rows(folder / "rows.jsonl", [tiny_row(seed) for seed in range(7)])
    settings = "--similarity lexical --max_sentence_tokens 4 --max_answer_tokens 6 --dtype float32 --shard_size 2"
    return [
        *["--model_name_or_path", str(folder / "model"), "--dataset_name", str(folder / "rows.jsonl")],
        *settings.split(),
    ]


def contents(folder):
    """What the folder holds, without the command, which names the folder."""
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    manifest = json.loads(found.pop("manifest.json"))
    return {name: value for name, value in manifest.items() if name != "command"}, found


@pytest.fixture(scope="module")
def undisturbed(flags, tmp_path_factory):
    folders = {}
    for streaming in ((), ("--streaming",)):
        folders[streaming] = tmp_path_factory.mktemp("undisturbed")
        main([*flags, "--output_dir", str(folders[streaming]), *streaming])
    return {streaming: contents(folder) for streaming, folder in folders.items()}


def start(processes, harm, flags):
    """Exit status and output of a run; the last process fails at its second shard."""
    script = Path(__file__).with_name("bdhs.py")
    count = 2 + (processes == 1)  # the first process writes the manifest, the second one may
    command = [*(accelerate("ddp") if processes == 2 else [sys.executable]), str(script)]
    (result,) = run_together(
        command + [str(SECONDS), str(processes - 1), harm, str(count), *flags], seconds=SECONDS + 60
    )
    return result


@pytest.mark.parametrize(
    ("harm", "killed", "resumed", "streaming"),
    [
        ("kill", 1, 1, ()),
        ("full", 2, 1, ()),
        ("kill", 2, 2, ("--streaming",)),
    ],
)
def test_a_run_that_ended_early_is_gone_on_with(flags, undisturbed, tmp_path, harm, killed, resumed, streaming):
    flags = [*flags, "--output_dir", str(tmp_path), *streaming]
    status, output = start(killed, harm, flags)
    assert status == (-signal.SIGKILL if (harm, killed) == ("kill", 1) else 1), output
    assert ("No space left on device" in output) == (harm == "full"), output
    finished = {path: path.stat().st_ino for path in tmp_path.glob("*.parquet")}
    assert len(finished) < 4 and not json.loads((tmp_path / "manifest.json").read_text())["complete"]
    # How far the other of two processes was when it was ended too, nobody knows
    assert killed == 2 or finished
    assert (harm, killed) == ("full", 2) or list(tmp_path.glob(".*.tmp"))

    if resumed == 1:
        main(flags)
    else:
        status, output = start(resumed, "none", flags)
        assert status == 0 and output.count("7 pairs from 7 rows") == 1, output
    assert contents(tmp_path) == undisturbed[streaming]
    assert {path: path.stat().st_ino for path in finished} == finished
