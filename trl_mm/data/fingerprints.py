"""What a result depends on, as digests: results of other weights or rows must not pass for new ones."""

import hashlib
import json
import tempfile
from pathlib import Path
from types import SimpleNamespace


_SHOWING = (".safetensors", ".bin", ".json", ".jinja", ".model", ".txt", ".py")  # what a model is loaded from
_OF_TRAINING = ("trainer_state.json", "training_args.bin", "optimizer.bin", "scheduler.bin")
_PASSING = ("is_local", "local_files_only", "name_or_path", "padding", "truncation")


def weights_digest(model, path=None):
    """
    Digest of the weights of a model.

    Args:
        model ([`~transformers.PreTrainedModel`]): the model.
        path (`str`, *optional*): id or folder that it was loaded from and that it still equals. Files are read faster
            than weights are hashed in memory, and a commit on the Hub is known already.

    Returns:
        `str`: digest, or commit. A LoRA that is not trained yet does not count.
    """
    if path is not None and Path(path).is_dir():
        digest = hashlib.sha256()
        for file in sorted(Path(path).iterdir()):
            if file.suffix in _SHOWING and file.name not in _OF_TRAINING and file.is_file():
                digest.update(file.name.encode() + file_digest(file).encode())
        base = _base_of_adapter(Path(path))
        if base is not None:
            digest.update(weights_digest(model, base).encode())
        return digest.hexdigest()
    commit = getattr(model.config, "_commit_hash", None)
    if path is not None and commit:
        return commit

    from trl.trainer.utils import hash_module

    tensors = model.state_dict()
    return hash_module(SimpleNamespace(state_dict=lambda: {k: v for k, v in tensors.items() if not _idle(k, tensors)}))


def _base_of_adapter(folder):
    """Folder of the base of an adapter, `None` if this is no adapter or its base is on the Hub, under a commit."""
    try:
        base = json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return base if base and Path(base).is_dir() and Path(base).resolve() != folder.resolve() else None


def file_digest(path):
    """Digest (`str`) of what a file holds."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _idle(name, tensors):
    """Whether a tensor is the random half of a new LoRA, which changes nothing and differs from run to run."""
    other = name.replace("lora_A", "lora_B").replace("lora_embedding_A", "lora_embedding_B")
    return other != name and not tensors[other].any()


def rows_digest(dataset, columns=("row_id", "images", "prompt", "chosen")):
    """
    Digest of what the rows say and show, wherever their images are: files may be moved, or embedded.

    Args:
        dataset (`datasets.Dataset`): rows with `images` (not decoded) and the other columns.
        columns (`tuple[str]`, *optional*, defaults to `("row_id", "images", "prompt", "chosen")`): columns to look at.

    Returns:
        `str`: digest. Each image file is read once, which takes far less time than decoding it.
    """
    digest, known = hashlib.sha256(), {}
    for batch in dataset.select_columns(list(columns)).iter(256):
        images = [[image_digest(image, known) for image in row] for row in batch.pop("images")]
        digest.update(json.dumps([batch, images], sort_keys=True, default=str).encode())
    return digest.hexdigest()


def image_digest(image, known):
    """
    Digest of an image as it is stored, by content: a picture that is made anew may keep its name, size and time.

    Args:
        image (`dict`): `bytes`, or the `path` of a file.
        known (`dict`): digest by path, of files that were read before; takes new ones.

    Returns:
        `str`: digest.
    """
    if image["bytes"] is not None:
        return hashlib.sha256(image["bytes"]).hexdigest()
    path = image["path"]
    if path not in known:
        known[path] = file_digest(path)
    return known[path]


def processor_digests(processor):
    """
    Digests of all that turns rows into tokens and pixels: tokenizer, image settings, chat template.

    Args:
        processor ([`~transformers.ProcessorMixin`]): the processor.

    Returns:
        `dict[str, str]`: name of each file that `save_pretrained` writes to digest.
    """
    with tempfile.TemporaryDirectory() as folder:
        processor.save_pretrained(folder)
        digests = {}
        for file in sorted(file for file in Path(folder).rglob("*") if file.is_file()):
            content = file.read_bytes()
            if file.suffix == ".json":
                # Where it was loaded from, and how the last batch was padded
                kept = {name: value for name, value in json.loads(content).items() if name not in _PASSING}
                content = json.dumps(kept, sort_keys=True).encode()
            digests[str(file.relative_to(folder))] = hashlib.sha256(content).hexdigest()[:16]
    return digests
