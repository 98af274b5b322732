"""Preference rows to the Hugging Face Hub: parquet files with the images inside, and a card."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from datasets import Dataset, Image, List
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import (
    HFValidationError,
    HTTPError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import validate_repo_id

from .dataset_card import make_card
from .loading import load_preferences, prepare_preferences
from .manifest import MANIFEST, read_manifest
from .rows import PREFERENCE_COLUMNS
from .shards import write_shards


_ROWS_PER_FILE = 1024  # in memory together


def push_preferences(
    dataset: Dataset | list[dict[str, Any]] | str | os.PathLike,
    repo_id: str,
    *,
    image_folder: str | os.PathLike | None = None,
    private: bool | None = None,
    overwrite: bool = False,
    license: str = "unknown",
    command: str | None = None,
    token: str | None = None,
) -> str:
    """
    Push preference rows to the Hub, as parquet files with the bytes of the images, with a card that says what they are
    and how they were made. Nothing local is changed.

    Rows and card become visible together, in one commit, when all is uploaded: a push that is interrupted leaves what
    a repository holds as it is, and is repeated with `overwrite=True`, without uploading again what the Hub has.

    Args:
        dataset (`datasets.Dataset`, `list[dict[str, Any]]`, `str` or `Path`):
            Preference rows, or a folder or file of them as for [`load_preferences`]. The shards of `trl-mm bdhs` and
            `trl-mm convert` go up as they are, those of a held-out split too, and the card shows their settings and
            command, local paths included.
        repo_id (`str`):
            Repository, as `owner/name`, or `name` for the owner of the token.
        image_folder (`str` or `Path`, *optional*):
            Folder that image paths are relative to, as for [`load_preferences`].
        private (`bool`, *optional*):
            Whether only its owner may see a new repository. Defaults to what the owner has set, usually public.
        overwrite (`bool`, *optional*, defaults to `False`):
            Whether the splits that are pushed (`train`, and `test` if there is one) and the card of a repository that
            exists are replaced. Its other files stay, but are no part of the dataset any more.
        license (`str`, *optional*, defaults to `"unknown"`):
            Identifier of a licence, as the Hub knows it, such as `"cc-by-4.0"`.
        command (`str`, *optional*):
            Command that made the rows, for the card. Defaults to what the manifest of the folder says.
        token (`str`, *optional*):
            Access token with the right to write. Defaults to that of `hf auth login` or of the variable `HF_TOKEN`.

    Returns:
        `str`:
            Address of the dataset.

    Raises:
        ValueError: `repo_id` is no name of a repository, the repository exists, `license` is unknown to the Hub, or
            a row is bad.
        FileNotFoundError: the folder does not exist.
        PermissionError: there is no token, or the Hub refuses it.
        OSError: the Hub cannot be reached or something fails there.
    """
    path = Path(dataset) if isinstance(dataset, str | os.PathLike) else None
    if path is not None and not path.exists():
        raise FileNotFoundError(f"`dataset` ({dataset}) does not exist. Pass the folder of the pairs.")
    repo_id, old_files = check_repo(repo_id, private=private, overwrite=overwrite, token=token)
    splits = {} if path is None else _splits(path)
    manifest = read_manifest(splits["train"]) if splits else None
    if path is None:
        rows = prepare_preferences(dataset)
    else:
        needs = manifest["settings"].get("convert", {}).get("needs") if manifest else None
        rows = load_preferences(path, image_folder=image_folder, needs=needs or PREFERENCE_COLUMNS)
    card = make_card(rows, repo_id, manifest, license=license, command=command, splits=[*splits] or ["train"])
    with _stopped(repo_id), TemporaryDirectory() as temporary:
        if manifest is None or manifest["settings"].get("images") == "path":
            stored, splits = rows.cast_column("images", List(Image(decode=False))), {"train": Path(temporary)}
            write_shards(temporary, stored, lambda rows: rows, {}, shard_size=_ROWS_PER_FILE)
        names = {name: shard for split, folder in splits.items() for name, shard in _names(split, folder)}
        replaced = [name for name in old_files or [] if name.startswith(tuple(f"data/{split}-" for split in splits))]
        operations = [
            CommitOperationAdd("README.md", str(card).encode(errors="replace")),
            *(CommitOperationAdd(name, shard) for name, shard in names.items()),
            *(CommitOperationDelete(name) for name in replaced if name not in names),
        ]
        api = HfApi(token=token, library_name="trl-mm")
        with _explained(repo_id):
            try:
                card.validate()
            except ValueError as error:
                raise ValueError(f"The Hub refuses the card. Correct `license` ({license}): {error}") from error
            if old_files is None:
                api.create_repo(repo_id, repo_type="dataset", private=private)
            # Not `Dataset.push_to_hub`: it merges with the card that is there, keeps the columns of the old rows in
            # it, and fails on one with gaps
            api.create_commit(
                repo_id, operations, repo_type="dataset", commit_message="Upload preference pairs with trl-mm"
            )
    return f"{api.endpoint}/datasets/{repo_id}"


def _splits(path: Path) -> dict[str, Path]:
    """Folder of the shards of each split; none if the rows are stored otherwise."""
    if (path / MANIFEST).exists():
        return {"train": path}
    folders = {name: path / name for name in ("train", "test") if (path / name / MANIFEST).exists()}
    return {name: folder for name, folder in folders.items() if name == "train" or read_manifest(folder)["num_rows"]}


def _names(split: str, folder: Path) -> list[tuple[str, Path]]:
    """Name on the Hub of each shard in a folder, and the shard."""
    shards = [folder / name for name, num_rows in read_manifest(folder)["shards"].items() if num_rows]
    return [(f"data/{split}-{index:05d}-of-{len(shards):05d}.parquet", shard) for index, shard in enumerate(shards)]


def check_repo(
    repo_id: str, *, private: bool | None = None, overwrite: bool = False, token: str | None = None
) -> tuple[str, list[str] | None]:
    """
    Find out whether [`push_preferences`] may write to a repository, before anything long begins.

    Args:
        repo_id, private, overwrite, token:
            As in [`push_preferences`].

    Returns:
        `(str, list[str] | None)`:
            Name of the repository with its owner, and its files, `None` if it does not exist.

    Raises:
        `ValueError`, `PermissionError`, `OSError`:
            As in [`push_preferences`].
    """
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ValueError(f"`repo_id` ({repo_id}) is no name of a repository. Write `owner/name`. {error}") from error
    api = HfApi(token=token, library_name="trl-mm")
    with _explained(repo_id):
        user = api.whoami()
        repo_id = repo_id if "/" in repo_id else f"{user['name']}/{repo_id}"
        try:
            found = api.repo_info(repo_id, repo_type="dataset")
        except RepositoryNotFoundError:
            found = None
    if user.get("auth", {}).get("accessToken", {}).get("role") == "read":
        raise PermissionError(
            f"The token may only read, so it cannot write `repo_id` ({repo_id}). Pass a `token` that may write, or "
            "run `hf auth login` with one."
        )
    if found is None:
        return repo_id, None
    if not overwrite:
        raise ValueError(
            f"`repo_id` ({repo_id}) exists already. Pass `overwrite=True` (`--overwrite`) to replace its rows and "
            "card, also after an interrupted push, or use another name."
        )
    if private and not found.private:
        raise ValueError(
            f"`repo_id` ({repo_id}) exists and is public, which `private=True` cannot change. Make it private in its "
            "settings on the Hub, or use another name."
        )
    return repo_id, [file.rfilename for file in found.siblings]


@contextmanager
def _stopped(repo_id: str) -> Iterator[None]:
    """Say what is true of a push that Ctrl-C stops. Shards say that they are resumed, but their folder goes."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"Stopped while pushing to `repo_id` ({repo_id}), where rows appear all together or not at all. Local "
            "rows are unchanged: push again, with `overwrite=True` (`--overwrite`) if the repository exists."
        ) from None


@contextmanager
def _explained(repo_id: str) -> Iterator[None]:
    """Turn what fails on the way to the Hub into an `OSError` with value and cure."""
    repeat = "Local rows are unchanged: push again, with `overwrite=True` (`--overwrite`) if the repository exists."
    try:
        yield
    except LocalTokenNotFoundError as error:
        raise PermissionError(
            f"`repo_id` ({repo_id}) needs an access token and there is none. Run `hf auth login`, set HF_TOKEN, or "
            "pass `token`."
        ) from error
    except OfflineModeIsEnabled as error:
        raise ConnectionError(f"`repo_id` ({repo_id}) cannot be reached offline: unset HF_HUB_OFFLINE.") from error
    except (HTTPError, ConnectionError, RuntimeError) as error:
        # The upload of a file raises a RuntimeError from what was wrong
        cause = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error
        status = getattr(getattr(cause, "response", None), "status_code", None)
        reason = " ".join(str(cause).split()).rstrip(".")
        if status in (401, 403):
            raise PermissionError(
                f"The Hub refuses the token for `repo_id` ({repo_id}): {reason}. Pass a `token` that may write there, "
                f"set HF_TOKEN to it, or run `hf auth login`. {repeat}"
            ) from error
        if status is None:
            raise ConnectionError(f"The Hub failed for `repo_id` ({repo_id}): {reason}. {repeat}") from error
        raise OSError(f"The Hub refuses the push to `repo_id` ({repo_id}): {reason}. {repeat}") from error
