"""Where rows are read from: local files or the Hub. No row is looked at here."""

import os
import re
from bisect import bisect_right
from collections.abc import Collection
from glob import escape
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from .csv_rows import CSVRows
from .json_rows import JSONRows
from .manifest import MANIFEST, read_manifest
from .parquet_rows import ParquetRows
from .shown import shown, shown_names
from .tsv_rows import TSVRows


BAD_ROWS = "bad_rows.jsonl"
SUFFIXES = (".parquet", ".jsonl", ".json", ".tsv")  # of files with rows; in a folder, those of the first one count
_METADATA = "metadata.csv"  # of an image folder of `datasets`, beside its images
_SAVED, _SAVED_SPLITS = ("state.json", "dataset_info.json"), "dataset_dict.json"  # written by `save_to_disk`
_SPLITS = ("train", "training", "validation", "valid", "val", "dev", "test", "testing", "eval", "evaluation")


class Source(NamedTuple):
    """
    Rows as stored, and where they are.

    Args:
        rows (`datasets.Dataset`, `datasets.IterableDataset` or `list[Any]`):
            Rows of all files.
        folder (`Path` or `None`):
            Folder of the files, `None` for the Hub.
        files (`tuple[str, ...]`):
            Names for messages.
        ends (`tuple[int, ...]`):
            Number of rows up to the end of each file; empty if unknown.
    """

    rows: Any
    folder: Path | None = None
    files: tuple[str, ...] = ()
    ends: tuple[int, ...] = ()

    def locate(self, index: int) -> tuple[str, int]:
        """File of a row and its position there, counted from 0."""
        if not self.ends:
            return ", ".join(self.files), index
        file = min(bisect_right(self.ends, index), len(self.ends) - 1)
        return self.files[file], index - (self.ends[file - 1] if file else 0)


def local_folder(name_or_path: str | os.PathLike) -> Path | None:
    """Folder of a local file or folder, which image paths are relative to; `None` for a dataset on the Hub."""
    path = Path(name_or_path)
    return path if path.is_dir() else path.parent if path.exists() else None


def open_stream(name_or_path: str | os.PathLike, split: str, kwargs: dict[str, Any]) -> Source:
    """
    Open rows to be read one after another, images not decoded. Arguments, errors and result are those of
    [`open_source`]; `rows` is an iterable that can be read again from its beginning.
    """
    if local_folder(name_or_path) is not None and not is_saved(Path(name_or_path)):
        files = local_files(Path(name_or_path), split)
        names, folder = tuple(map(str, files)), local_folder(name_or_path)
        if files[0].suffix != ".parquet":
            # As it is read without streaming: `datasets` would take text for dates, and types from the first rows
            _refuse(kwargs, name_or_path)
            return Source(_text_rows(files), folder, names)
        if not kwargs:
            return Source(ParquetRows(files), folder, names, tuple(accumulate(map(_num_parquet_rows, files))))
    source = open_source(name_or_path, split, True, kwargs)
    is_typed = getattr(source.rows, "features", None) is not None
    return source._replace(rows=source.rows.decode(False)) if is_typed else source


def open_source(name_or_path: str | os.PathLike, split: str, streaming: bool, kwargs: dict[str, Any]) -> Source:
    """
    Open a local file or folder, or a dataset on the Hub.

    Args:
        name_or_path (`str` or `Path`):
            What to open. Whatever exists locally is taken from there.
        split (`str`):
            Name of the split.
        streaming (`bool`):
            Whether `rows` is an `IterableDataset`.
        kwargs (`dict[str, Any]`):
            Further arguments of `datasets.load_dataset`.

    Returns:
        [`Source`]:
            The rows.

    Raises:
        FileNotFoundError: it is neither here nor on the Hub.
        ValueError: a file cannot be read, or `kwargs` asks for running code that comes with the data.
    """
    if "trust_remote_code" in kwargs:
        raise ValueError("`trust_remote_code` is not supported: data is never executed. Load a parquet version of it.")
    path = Path(name_or_path)
    if not path.exists():
        if path.is_absolute() or path.suffix in SUFFIXES:
            raise FileNotFoundError(f"`{name_or_path}` is no local file or folder. Correct the path.")
        try:
            rows = datasets.load_dataset(str(name_or_path), split=split, streaming=streaming, **kwargs)
        except (FileNotFoundError, ConnectionError) as error:
            raise FileNotFoundError(
                f"`{name_or_path}` is no local file or folder, and cannot be had from the Hub: {error}"
            ) from error
        except ValueError as error:  # no such split or configuration, of which there are these
            raise ValueError(f"`{name_or_path}` cannot be read from the Hub: {error}") from error
        return Source(rows, files=(str(name_or_path),))
    if is_saved(path):
        _refuse(kwargs, path)
        rows = _saved_rows(path, split)
        return Source(rows.to_iterable_dataset() if streaming else rows, path, (str(path),))
    files = local_files(path, split)
    names, folder = tuple(map(str, files)), local_folder(path)
    is_parquet = files[0].suffix == ".parquet"
    counts = [_num_parquet_rows(file) for file in files] if is_parquet else []
    if is_parquet and not any(counts):
        rows = []  # `datasets` reads no types from files without rows
    elif streaming and files[0].suffix in (".csv", ".tsv"):
        _refuse(kwargs, path)
        rows = datasets.Dataset.from_list(list(_text_rows(files))).to_iterable_dataset()
    elif is_parquet or streaming:
        # `datasets` reads the names of files as patterns.
        data_files = {"train": [escape(name) for name in names]}
        kind = "parquet" if is_parquet else "json"
        rows = datasets.load_dataset(kind, data_files=data_files, split="train", streaming=streaming, **kwargs)
    else:
        _refuse(kwargs, path)
        # Not by `datasets`: it takes the types of all rows from the first ones, and its errors have no line numbers.
        contents = [list(_text_rows([file])) for file in files]
        counts, rows = [len(content) for content in contents], [row for content in contents for row in content]
    return Source(rows, folder, names, tuple(accumulate(counts)))


def local_files(path: Path, split: str) -> list[Path]:
    """Files with the rows of a split, all of one kind, in a local file or folder; raises as [`open_source`] does."""
    if not path.is_dir():
        _check_regular(path)
        if path.suffix not in SUFFIXES and path.name != _METADATA:
            raise ValueError(f"{path} must be a .parquet, .jsonl or .json file. Convert it to one of these.")
        check_split(path, split, ["train"])
        return [path]
    if (path / MANIFEST).exists():
        manifest = read_manifest(path)
        if not manifest.get("complete") or not all((path / name).exists() for name in manifest["shards"]):
            raise ValueError(f"{path} is not complete. Run the command that writes it again: it resumes from there.")
    elif folders := {name: path / name for name in _SPLITS if (path / name / MANIFEST).exists()}:
        check_split(path, split, folders)
        return local_files(folders[split], "train")
    for suffix in SUFFIXES:
        files = [file for file in sorted(path.glob(f"*{suffix}")) if file.name not in (BAD_ROWS, MANIFEST)]
        if files:
            break
    else:
        if not (path / _METADATA).exists():
            raise FileNotFoundError(_nothing_there(path))
        files = [path / _METADATA]
    for file in files:
        _check_regular(file)
    by_name: dict[str, list[Path]] = {}
    for file in files:
        by_name.setdefault(re.split(r"[-_.]", file.name)[0], []).append(file)
    splits = by_name
    if "train" not in by_name:
        splits = {name: files for name, files in by_name.items() if name in _SPLITS}
        if unnamed := [file for file in files if not any(file in named for named in splits.values())]:
            splits = {"train": unnamed, **splits}
    check_split(path, split, splits)
    return splits[split]


def is_saved(path: Path) -> bool:
    """Whether this is a folder written by `save_to_disk`."""
    return (path / _SAVED_SPLITS).is_file() or all((path / name).is_file() for name in _SAVED)


def _saved_rows(path: Path, split: str) -> datasets.Dataset:
    """Rows of a folder written by `save_to_disk`."""
    try:
        rows = datasets.load_from_disk(str(path))
        if isinstance(rows, datasets.DatasetDict):
            check_split(path, split, rows)
            rows = rows[split]
        else:
            check_split(path, split, ["train"])
    except (KeyError, TypeError, AttributeError, OSError, pa.ArrowException) as error:
        raise ValueError(
            f"{path} was written by `save_to_disk`, but cannot be read: {shown(error)}. Save it again."
        ) from error
    return rows.with_format(None)


def _text_rows(files: list[Path]) -> JSONRows | CSVRows | TSVRows:
    kinds: dict[str, type[CSVRows] | type[TSVRows]] = {".csv": CSVRows, ".tsv": TSVRows}
    return kinds.get(files[0].suffix, JSONRows)(files)


def _check_regular(path: Path) -> None:
    """Refuse a pipe, a socket or a device, which may never end or never begin."""
    if not path.is_file():
        raise ValueError(f"{shown(str(path), 1000)} is no regular file. Write the rows to one, and pass its path.")


def _nothing_there(path: Path) -> str:
    message = f"{path} holds no .parquet, .jsonl or .json file. Pass the folder or file that does."
    ending = (*(f"*{suffix}" for suffix in SUFFIXES), _METADATA)
    folders = [child for child in sorted(path.iterdir()) if child.is_dir()]
    below = [child.name for child in folders if any(any(child.glob(pattern)) for pattern in ending)]
    return f"{message} Folders in it do: {shown_names(below)}." if below else message


def check_split(name: str | os.PathLike, split: str, known: Collection[str]) -> None:
    """
    Refuse a split that is not there: rows of another one in its place would be evaluated on what was trained on.

    Args:
        name (`str` or `Path`):
            What has the splits, for the message.
        split (`str`):
            The split that is asked for.
        known (`Collection[str]`):
            Those that are there.

    Raises:
        ValueError: it is none of them.
    """
    if split not in known:
        cure = "Pass one of them"
        if list(known) == ["train"]:
            cure = "Leave the split at `train`, or put rows of others into a folder, in files such as test.jsonl"
        raise ValueError(
            f"{shown(str(name), 1000)} has no split {shown(repr(split))}, only {shown_names(known) or 'none'}. {cure}."
        )


def _refuse(kwargs: dict[str, Any], path: str | os.PathLike) -> None:
    if kwargs:
        raise ValueError(f"`{'`, `'.join(kwargs)}` would do nothing: {path} is not read by `datasets`. Remove it.")


def _num_parquet_rows(file: Path) -> int:
    try:
        return pq.read_metadata(file).num_rows
    except (OSError, pa.ArrowException) as error:
        reason = shown(str(error).strip().rstrip("."), 500)
        raise ValueError(f"{file} is no intact parquet file: {reason}. Write or download it again.") from error
