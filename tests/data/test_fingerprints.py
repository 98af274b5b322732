import json
import os

import pytest
import torch
from datasets import Dataset, Features, Image, List, Value
from peft import LoraConfig, get_peft_model
from support.tiny import tiny_image, tiny_model, tiny_row

from trl_mm.data import fingerprints
from trl_mm.data.fingerprints import rows_digest, weights_digest
from trl_mm.data.streaming import stream_preferences


def test_a_lora_counts_once_it_changes_something():
    """Its random half differs from process to process."""

    def adapted(seed):
        model = tiny_model()
        torch.manual_seed(seed)
        return get_peft_model(model, LoraConfig(target_modules=["q_proj", "v_proj"]))

    first, second = adapted(1), adapted(2)
    assert weights_digest(first) == weights_digest(second)
    before = weights_digest(second)
    for name, parameter in second.named_parameters():
        if "v_proj.lora_B" in name:
            torch.nn.init.normal_(parameter)
    assert weights_digest(second) != before


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors", "tokenizer.model", "merges.txt"])
def test_every_file_that_a_model_is_loaded_from_counts(tmp_path, name):
    (tmp_path / name).write_bytes(b"1")
    before = weights_digest(None, str(tmp_path))
    (tmp_path / "training_args.bin").write_bytes(b"1")
    assert weights_digest(None, str(tmp_path)) == before
    (tmp_path / name).write_bytes(b"2")
    assert weights_digest(None, str(tmp_path)) != before


def test_the_base_of_an_adapter_counts(tmp_path):
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    base.mkdir()
    adapter.mkdir()
    (base / "model.safetensors").write_bytes(b"1")
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base)}))
    before = weights_digest(None, str(adapter))
    (base / "model.safetensors").write_bytes(b"2")
    assert weights_digest(None, str(adapter)) != before


IMAGES = Features({"row_id": Value("string"), "images": List(Image(decode=False))})


def of_images(*images):
    """Digest of rows with these images."""
    rows = [{"row_id": str(index), "images": [image]} for index, image in enumerate(images)]
    return rows_digest(Dataset.from_list(rows, features=IMAGES), ("row_id", "images"))


def replace_image(path, seed):
    """Put another image of the same size, in pixels and bytes, into a file that keeps its time."""
    before = os.stat(path)
    tiny_image(seed).save(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert os.stat(path).st_size == before.st_size


def test_an_image_counts_by_what_it_shows_and_not_by_where_it_is(tmp_path, monkeypatch):
    first, second = tmp_path / "a.bmp", tmp_path / "b.bmp"
    tiny_image(1).save(first)
    tiny_image(1).save(second)
    embedded = {"bytes": first.read_bytes(), "path": "elsewhere.bmp"}
    before = of_images(str(first), str(first))
    assert before == of_images(str(second), str(first)) == of_images(embedded, embedded)
    read, real = [], fingerprints.file_digest
    monkeypatch.setattr(fingerprints, "file_digest", lambda path: read.append(path) or real(path))
    replace_image(first, 2)
    assert of_images(str(first), str(first)) != before and read == [str(first)], "it is read once"


def test_an_image_of_a_stream_counts_by_what_it_shows(tmp_path):
    tiny_image().save(tmp_path / "0.bmp")
    (tmp_path / "rows.jsonl").write_text(json.dumps({**tiny_row(), "images": ["0.bmp"]}))

    def digest():
        stream = stream_preferences(tmp_path / "rows.jsonl", needs=("images", "prompt", "chosen"))
        return stream.digest(list(stream))

    before = digest()
    assert digest() == before
    replace_image(tmp_path / "0.bmp", 2)
    assert digest() != before
