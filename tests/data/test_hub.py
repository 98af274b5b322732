"""Pushing to a Hub on loopback, from processes that know no other, and loading what came of it."""

import json
import signal
import socket
import subprocess
import sys

import pytest
from datasets import load_from_disk
from support.files import contents
from support.hub_server import READ_TOKEN, TOKEN, running_hub
from support.tiny import save_tiny, tiny_image, tiny_row

from trl_mm import MMDPOConfig, MMDPOTrainer, load_preferences
from trl_mm.data import hub as hub_module
from trl_mm.data.hub import push_preferences
from trl_mm.data.shards import write_shards


# Every push runs in a process of its own: `huggingface_hub` reads HF_ENDPOINT when it is imported.
PUSH = """
import json, sys
from trl_mm import push_preferences
for arguments in json.loads(sys.argv[1]):
    try:
        print("RESULT", json.dumps([None, push_preferences(**arguments)]))
    except Exception as error:
        print("RESULT", json.dumps([[kind.__name__ for kind in type(error).__mro__], str(error)]))
"""
LOAD = """
import sys
from datasets import load_dataset
load_dataset(sys.argv[1], split="train").save_to_disk(sys.argv[2])
"""


def make_folder(folder, rejected="There is a dog.", **settings):
    """Shards as `trl-mm bdhs` writes them, of three rows, the second settled by the second attempt."""

    def transform(rows):
        message = [{"role": "assistant", "content": rejected}]
        return [
            {**row, "rejected": message, "bdhs_attempts": 1 + index, "bdhs_guided": True, "bdhs_similarity": 0.5}
            for index, row in enumerate(rows)
        ]

    settings = {"model": "llava-hf/llava-v1.6-vicuna-7b-hf", "bdhs": {"mask_threshold": 0.99}, **settings}
    source = [tiny_row(index, size=(30 + 10 * index, 40)) for index in range(3)]
    write_shards(folder, source, transform, settings, shard_size=2, command="trl-mm bdhs --seed 0")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("pairs") / "pairs")


@pytest.fixture
def hub():
    with running_hub() as hub:
        yield hub


def start(code, *arguments, environment):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    try:
        output, errors = process.communicate(timeout=200)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    return [json.loads(line.removeprefix("RESULT ")) for line in output.splitlines() if line.startswith("RESULT ")]


def push(environment, *calls):
    """Results of these calls of `push_preferences`: `(None, address)` or `(names of the error's classes, message)`."""
    calls = [{**call, "dataset": str(call["dataset"])} for call in calls]
    return finish(start(PUSH, json.dumps(calls), environment=environment))


def load(hub, repo_id, tmp_path):
    finish(start(LOAD, repo_id, tmp_path / "loaded", environment=hub.environment(tmp_path / "reader")))
    return load_from_disk(tmp_path / "loaded")


def images(dataset):
    return [[image.tobytes() for image in row] for row in dataset["images"]]


def test_pushed_pairs_load_and_train(hub, folder, tmp_path):
    before = contents(folder)
    ((error, address),) = push(
        hub.environment(tmp_path), {"dataset": folder, "repo_id": "pairs", "private": True, "license": "cc-by-4.0"}
    )
    assert error is None and address == f"{hub.url}/datasets/me/pairs"
    assert hub.private == {"me/pairs"} and contents(folder) == before
    files = hub.repos["me/pairs"]
    assert set(files) == {".gitattributes", "README.md", *(f"data/train-0000{i}-of-00002.parquet" for i in range(2))}
    assert files["data/train-00001-of-00002.parquet"] == before["shard-00001.parquet"]
    card = files["README.md"].decode()
    assert "license: cc-by-4.0" in card and "base_model: llava-hf/llava-v1.6-vicuna-7b-hf" in card
    assert "trl-mm bdhs --seed 0" in card and "| bdhs.mask&#95;" not in card
    assert "| bdhs.mask_threshold | 0.99 |" in card and "| 2 | 1 | 1 | 100.0% | 1 | 0.500 |" in card

    pairs, local = load(hub, "me/pairs", tmp_path), load_preferences(folder)
    assert pairs.features == local.features and images(pairs) == images(local)
    assert pairs.remove_columns("images")[:] == local.remove_columns("images")[:]
    save_tiny(tmp_path / "model")
    settings = MMDPOConfig(
        output_dir=str(tmp_path), max_steps=1, report_to="none", save_strategy="no", use_cpu=True, bf16=False
    )
    trainer = MMDPOTrainer(str(tmp_path / "model"), args=settings, train_dataset=pairs)
    assert trainer.train().global_step == 1


def test_paths_of_images_are_pushed_as_images(hub, tmp_path):
    tiny_image(3).save(tmp_path / "3.png")
    row = {**tiny_row(3), "images": ["3.png"], "rejected": tiny_row()["chosen"]}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    shards = [{**row, "images": [str(tmp_path / "3.png")]}]
    settings = {"images": "path", "bdhs": {"mask_threshold": 0.99}}
    write_shards(tmp_path / "pairs", shards, lambda rows: rows, settings, image_folder=tmp_path)
    calls = (
        {"dataset": tmp_path / "rows.jsonl", "repo_id": "me/pairs"},
        {"dataset": tmp_path / "pairs", "repo_id": "me/shards", "image_folder": str(tmp_path)},
    )
    assert [error for error, _ in push(hub.environment(tmp_path), *calls)] == [None, None] and hub.private == set()
    for call in calls:
        assert images(load(hub, call["repo_id"], tmp_path)) == [[tiny_image(3).tobytes()]]
    assert "| bdhs.mask_threshold | 0.99 |" in hub.repos["me/shards"]["README.md"].decode()


def test_what_exists_is_replaced_only_on_request(hub, folder, tmp_path):
    other = make_folder(tmp_path / "other", rejected="There is a cat.", source="other")
    known = {"dataset": folder, "repo_id": "me/pairs"}
    new = {**known, "dataset": other}
    first, refused, hidden, replaced = push(
        hub.environment(tmp_path),
        known,
        new,
        {**new, "private": True, "overwrite": True},
        {**new, "overwrite": True},
    )
    assert first[0] is None and replaced == first
    assert "ValueError" in refused[0] and "`repo_id` (me/pairs) exists already. Pass `overwrite=True`" in refused[1]
    assert "ValueError" in hidden[0] and "is public, which `private=True` cannot change" in hidden[1]
    assert {row["rejected"][0]["content"] for row in load(hub, "me/pairs", tmp_path)} == {"There is a cat."}


def test_a_repository_of_other_columns_is_replaced(hub, folder, tmp_path):
    hub.repos["me/pairs"] = {
        "README.md": b"---\ndataset_info:\n  features:\n  - name: text\n    dtype: string\n---\n\nOld text.\n",
        "data/train-00000-of-00002.parquet": b"old",
        "data/train-00001-of-00002.parquet": b"old",
        "data/train-00002-of-00003.parquet": b"old",
        "notes.txt": b"mine",
    }
    ((error, message),) = push(
        hub.environment(tmp_path), {"dataset": folder, "repo_id": "me/pairs", "overwrite": True}
    )
    assert error is None, message
    shards = {f"data/train-0000{index}-of-00002.parquet" for index in range(2)}
    assert set(hub.repos["me/pairs"]) == {"README.md", "notes.txt", *shards}
    assert b"Old text" not in hub.repos["me/pairs"]["README.md"]
    assert load(hub, "me/pairs", tmp_path).features == load_preferences(folder).features


def test_a_killed_push_is_repeated_with_overwrite(hub, folder, tmp_path):
    before = contents(folder)
    call = {"dataset": str(folder), "repo_id": "me/pairs"}
    environment = hub.environment(tmp_path)
    killed = []
    hub.failures = [("POST /api/datasets/me/pairs/commit/", lambda: killed[0].kill())]
    killed.append(start(PUSH, json.dumps([call]), environment=environment))
    killed[0].communicate(timeout=200)
    assert killed[0].returncode == -signal.SIGKILL
    assert set(hub.repos["me/pairs"]) == {".gitattributes"} and contents(folder) == before

    refused, done = push(environment, call, {**call, "overwrite": True})
    assert "ValueError" in refused[0] and "also after an interrupted push" in refused[1]
    assert done[0] is None and sum(request.startswith("PUT /lfs/") for request in hub.requests) == 2
    assert len(load(hub, "me/pairs", tmp_path)) == 3


def test_what_the_hub_refuses_is_named_with_a_cure(hub, folder, tmp_path):
    known = {"dataset": folder, "repo_id": "me/pairs"}
    before = contents(folder)
    read_only, invalid, licence, name, gone, unfinished = push(
        hub.environment(tmp_path),
        {**known, "token": READ_TOKEN},
        {**known, "token": "hf_wrong"},
        {**known, "license": "no-licence"},
        {**known, "repo_id": "me/two words"},
        {**known, "dataset": tmp_path / "gone"},
        {**known, "dataset": tmp_path},
    )
    assert "PermissionError" in read_only[0] and "cannot write `repo_id` (me/pairs)" in read_only[1]
    assert "PermissionError" in invalid[0] and "The Hub refuses the token for `repo_id` (me/pairs)" in invalid[1]
    assert "hf_wrong" not in invalid[1]
    assert "ValueError" in licence[0] and "Correct `license` (no-licence)" in licence[1]
    assert "ValueError" in name[0] and "`repo_id` (me/two words) is no name of a repository" in name[1]
    assert "FileNotFoundError" in gone[0] and str(tmp_path / "gone") in gone[1]
    assert "OSError" in unfinished[0] and str(tmp_path) in unfinished[1]
    assert hub.repos == {} and contents(folder) == before


def test_a_failed_upload_is_an_os_error(hub, folder, tmp_path):
    hub.failures = [("PUT /lfs/", 403), ("POST /api/datasets/me/pairs/commit/", 400)]
    known = {"dataset": folder, "repo_id": "me/pairs", "overwrite": True}
    forbidden, failed = push(hub.environment(tmp_path), known, known)
    assert "PermissionError" in forbidden[0] and "The Hub refuses the token for `repo_id` (me/pairs)" in forbidden[1]
    assert "OSError" in failed[0] and "The Hub refuses the push to `repo_id` (me/pairs)" in failed[1]
    for _, message in (forbidden, failed):
        assert "Local rows are unchanged: push again" in message


def test_no_token_and_no_network_are_named(hub, folder, tmp_path):
    known = {"dataset": folder, "repo_id": "me/pairs"}
    ((error, message),) = push(hub.environment(tmp_path, token=None), known)
    assert "PermissionError" in error and "there is none. Run `hf auth login`" in message
    with socket.socket() as closed:  # bound, but nobody listens
        closed.bind(("127.0.0.1", 0))
        nowhere = {"HF_ENDPOINT": f"http://127.0.0.1:{closed.getsockname()[1]}"}
        ((error, message),) = push({**hub.environment(tmp_path), **nowhere}, known)
    assert "ConnectionError" in error and "`repo_id` (me/pairs)" in message
    assert hub.requests == []


def test_offline_is_named(folder):
    with pytest.raises(ConnectionError, match=r"`repo_id` \(me/pairs\) cannot be reached offline: unset HF_HUB_OFF"):
        push_preferences(folder, "me/pairs", token=TOKEN)


@pytest.mark.parametrize("kind", ["rows", "folder"])
def test_ctrl_c_promises_nothing_that_a_folder_of_the_push_alone_could_keep(kind, folder, monkeypatch):
    def stop(*args, **options):
        raise KeyboardInterrupt("The same command resumes: 1 shard is finished.")

    monkeypatch.setattr(hub_module, "check_repo", lambda *args, **options: ("me/pairs", None))
    monkeypatch.setattr(hub_module, "write_shards" if kind == "rows" else "HfApi", stop)
    rows = [tiny_row(0, rejected=[{"role": "assistant", "content": "A dog."}])]
    with pytest.raises(KeyboardInterrupt, match=r"Stopped while pushing to `repo_id` \(me/pairs\).*push again"):
        push_preferences(rows if kind == "rows" else folder, "me/pairs")


def test_a_held_out_split_goes_up_as_test(hub, tmp_path):
    for name in ("train", "test"):
        make_folder(tmp_path / "pairs" / name, rejected=f"There is a {name}.")
    # Of an earlier push, with more files
    hub.repos["me/pairs"] = {f"data/{name}-00009-of-00010.parquet": b"" for name in ("train", "test", "other")}
    call = {"dataset": tmp_path / "pairs", "repo_id": "me/pairs", "overwrite": True}
    ((error, _),) = push(hub.environment(tmp_path), call)
    assert error is None
    names = [f"data/{name}-0000{index}-of-00002.parquet" for name in ("test", "train") for index in range(2)]
    kept = [name for name in hub.repos["me/pairs"] if name.startswith("data/") and "other" not in name]
    assert sorted(kept) == names and "data/other-00009-of-00010.parquet" in hub.repos["me/pairs"]
    card = hub.repos["me/pairs"]["README.md"].decode()
    assert "path: data/train-*" in card and "path: data/test-*" in card
    assert len(load(hub, "me/pairs", tmp_path)) == 3


CONVERT = """
import sys
from trl_mm.scripts.convert import main
main([sys.argv[1], "--output_dir", sys.argv[2], "--shard_size", "2"])
"""


def test_a_dataset_of_the_hub_is_converted_as_it_streams(hub, folder, tmp_path):
    push(hub.environment(tmp_path), {"dataset": folder, "repo_id": "me/pairs"})
    finish(start(CONVERT, "me/pairs", tmp_path / "out", environment=hub.environment(tmp_path / "reader")))
    made, local = load_preferences(tmp_path / "out"), load_preferences(folder)
    assert images(made) == images(local)
    assert made.remove_columns("images")[:] == local.remove_columns("images")[:]
    assert contents(tmp_path / "out")["bad_rows.jsonl"] == b""
