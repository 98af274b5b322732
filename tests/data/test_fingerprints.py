import json

import pytest
import torch
from peft import LoraConfig, get_peft_model
from support.tiny import tiny_model

from trl_mm.data.fingerprints import weights_digest


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
