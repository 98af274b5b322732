"""
The card of a preference dataset: what it holds and how that was made. Settings and data are hostile input, so the
template passes every value through [`escape_markdown`]; the front matter is written by `huggingface_hub`.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from datasets import Dataset, Features, Image, List, Value
from huggingface_hub import DatasetCard, DatasetCardData
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from .conversion_tally import summary_lines
from .manifest import flat_settings, read_manifest
from .pair_statistics import count_attempts


_BDHS = ("bdhs_attempts", "bdhs_guided", "bdhs_similarity")
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def make_card(
    dataset: Dataset,
    repo_id: str,
    manifest: dict[str, Any] | None = None,
    *,
    license: str = "unknown",
    command: str | None = None,
    splits: Sequence[str] = ("train",),
) -> DatasetCard:
    """
    Describe a preference dataset.

    Args:
        dataset (`datasets.Dataset`):
            Preference rows.
        repo_id (`str`):
            Repository on the Hub, as `owner/name`.
        manifest (`dict[str, Any]`, *optional*):
            Manifest of the shards that the rows come from.
        license (`str`, *optional*, defaults to `"unknown"`):
            Identifier of a licence, as the Hub knows it.
        command (`str`, *optional*):
            Command that made the rows. Defaults to that of the manifest.
        splits (`Sequence[str]`, *optional*, defaults to `("train",)`):
            Splits that there are on the Hub; `dataset` is the first.

    Returns:
        `huggingface_hub.DatasetCard`:
            The card, without a description of the files.
    """
    return _card(
        repo_id.split("/")[-1],
        dataset.features,
        len(dataset),
        manifest or {},
        attempts=_attempts(dataset),
        license=license,
        command=command,
        data_files=[{"split": name, "path": f"data/{name}-*"} for name in splits],
        loading=f'from datasets import load_dataset\n\nload_dataset("{repo_id}", split="train")',
    )


def make_folder_card(folders: Sequence[Path], *, names: Sequence[str], title: str, license: str) -> DatasetCard:
    """
    Describe complete folders of shards, without reading their rows.

    Args:
        folders (`Sequence[Path]`):
            Folder of each split.
        names (`Sequence[str]`):
            Names of the splits, which are those of the folders; none if there is one folder with the card in it.
        title (`str`):
            Name of the dataset.
        license (`str`):
            Identifier of a licence, as the Hub knows it.

    Returns:
        `huggingface_hub.DatasetCard`:
            The card.
    """
    manifests = [read_manifest(folder) for folder in folders]
    shards = [
        folder / name for folder, manifest in zip(folders, manifests, strict=True) for name in manifest["shards"]
    ]
    splits = [{"split": name, "path": f"{name}/shard-*.parquet"} for name in names]
    return _card(
        title,
        Features.from_arrow_schema(pq.read_schema(shards[0])),
        sum(manifest["num_rows"] for manifest in manifests),
        manifests[0],
        attempts=[],
        license=license,
        data_files=splits or [{"split": "train", "path": "shard-*.parquet"}],
        loading=f'from trl_mm import load_preferences\n\nload_preferences("{title}")',
    )


def _card(
    title: str,
    features: Features,
    num_rows: int,
    manifest: dict[str, Any],
    *,
    attempts: list[dict[str, Any]],
    license: str,
    data_files: list[dict[str, str]],
    loading: str,
    command: str | None = None,
) -> DatasetCard:
    model = manifest.get("settings", {}).get("model")
    command = command or manifest.get("command")
    data = DatasetCardData(
        license=license,
        base_model=model if is_hub_id(model) else None,
        task_categories=["image-text-to-text"],
        tags=["preference", "dpo", "vision", "trl", "trl-mm", *(["bdhs"] if attempts else [])],
        size_categories=_size_category(num_rows),
        configs=[{"config_name": "default", "data_files": data_files}],
    )
    text = render_markdown(
        Path(__file__).with_name("dataset_card.md.j2"),
        name=title,
        num_rows=f"{num_rows:,}",
        is_pairs="rejected" in features,
        model=model,
        loading=code_block(loading, "python"),
        columns=[
            {"name": name, "type": _type_name(feature), "meaning": _MEANINGS.get(name, "")}
            for name, feature in features.items()
        ],
        attempts=attempts,
        conversion=summary_lines(manifest["summary"]) if "summary" in manifest else [],
        command=command and code_block(command, "bash"),
        settings=flat_settings(manifest) if manifest else {},
        versions=manifest.get("versions", {}),
        license=license,
    )
    return DatasetCard(f"---\n{data.to_yaml()}\n---\n\n{text}")


def render_markdown(template: Path, **values: Any) -> str:
    """Markdown of a card from its template, with every value made [`escape_markdown`] that is no `Markup`."""
    environment = Environment(
        loader=FileSystemLoader(template.parent),
        finalize=escape_markdown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template.name).render(**values)


def escape_markdown(value: Any) -> Markup:
    """One line of Markdown that shows `value` as it is: no part of it is read as Markdown or HTML."""
    if isinstance(value, Markup):
        return value
    text = " ".join(str(value).encode(errors="replace").decode().split())
    # Character references, since backslashes do not help in the cells of a table. `_` within a word is no markup.
    return Markup(re.sub(r"[^\w .,;()/%=+'-]|(?<![^\W_])_|_(?![^\W_])", lambda match: f"&#{ord(match[0])};", text))


def code_block(text: str, language: str) -> Markup:
    """A block of code that shows `text` as it is, whatever fences it holds."""
    text = text.encode(errors="replace").decode()
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", text) or [""]))
    return Markup(f"{fence}{language}\n{text}\n{fence}")


def is_hub_id(model: Any) -> bool:
    """Whether this is the name of a model or dataset on the Hub, and not of a folder here."""
    return isinstance(model, str) and bool(_HUB_ID.fullmatch(model)) and not Path(model).exists()


def _attempts(dataset: Dataset) -> list[dict[str, Any]]:
    """What became of the rows at each attempt of BDHS; empty for rows of another origin."""
    if not {*_BDHS} <= {*dataset.column_names}:
        return []
    return [
        {
            "attempt": count.attempt,
            "reached": count.made,
            "settled": count.kept,
            "share": f"{count.kept / count.made:.1%}",
            "guided": count.guided,
            "similarity": "" if count.similarity is None else f"{count.similarity:.3f}",
        }
        for count in count_attempts(dataset.with_format(None).select_columns(list(_BDHS)))
    ]


def _size_category(num_rows: int) -> str:
    limits = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M"}
    return next((name for limit, name in limits.items() if num_rows < limit), "1M<n<10M")


def _type_name(feature: Any) -> str:
    if isinstance(feature, Value):
        return feature.dtype
    if isinstance(feature, List):
        return f"list of {_type_name(feature.feature)}"
    if isinstance(feature, dict):
        return f"({', '.join(f'{name}: {_type_name(part)}' for name, part in feature.items())})"
    return "image" if isinstance(feature, Image) else type(feature).__name__


_MEANINGS = {
    "images": "images of the prompt, as the bytes of their files",
    "prompt": "messages up to the answer",
    "chosen": "the answer to prefer, as messages",
    "rejected": "the answer to avoid, as messages",
    "second_rejected": "another answer to avoid, as messages",
    "row_id": "position or name of the row in its source",
    "source": "where the row comes from",
    "step": "training step whose policy wrote the rejected answer",
    "bdhs_attempts": "attempts made",
    "bdhs_similarity": "similarity of the rejected answer to the chosen one",
    "bdhs_guided": "whether sentences of the chosen answer guided the rejected one",
    "corrupt_attempts": "attempts until a rewriting was kept",
    "corrupt_similarity": "similarity of the rejected answer to the chosen one",
    "chosen_model": "what wrote the chosen answer",
    "rejected_model": "what wrote the rejected answer",
}
