"""What a result depends on, as digests: results of other weights or rows must not pass for new ones."""

import hashlib
import json
import os
from pathlib import Path


def weights_digest(model, path=None):
    """
    Digest of the weights of a model.

    Args:
        model ([`~transformers.PreTrainedModel`]): the model.
        path (`str`, *optional*): id or folder that it was loaded from and that it still equals. Files are read faster
            than weights are hashed in memory, and a commit on the Hub is known already.

    Returns:
        `str`: digest, or commit.
    """
    if path is not None and Path(path).is_dir():
        digest = hashlib.sha256()
        for file in sorted(
            file for file in Path(path).iterdir() if file.suffix in (".safetensors", ".json", ".jinja")
        ):
            if file.name != "trainer_state.json":
                digest.update(file.name.encode())
                with file.open("rb") as stream:
                    digest.update(hashlib.file_digest(stream, "sha256").digest())
        return digest.hexdigest()
    commit = getattr(model.config, "_commit_hash", None)
    if path is not None and commit:
        return commit

    from trl.trainer.utils import hash_module

    return hash_module(model)


def rows_digest(dataset):
    """
    Digest of what the rows say and show.

    Args:
        dataset (`datasets.Dataset`): rows with `row_id`, `images` (not decoded), `prompt` and `chosen`.

    Returns:
        `str`: digest. Of image files that are not embedded, it covers name and size.
    """
    digest = hashlib.sha256()
    for batch in dataset.select_columns(["row_id", "images", "prompt", "chosen"]).iter(256):
        images = [[_image_digest(image) for image in row] for row in batch.pop("images")]
        digest.update(json.dumps([batch, images], sort_keys=True, default=str).encode())
    return digest.hexdigest()


def _image_digest(image):
    if image["bytes"] is not None:
        return hashlib.sha256(image["bytes"]).hexdigest()
    return [os.path.basename(image["path"]), os.path.getsize(image["path"])]
