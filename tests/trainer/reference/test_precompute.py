"""What stands between `precompute_ref_log_probs` and TRL; the values are in test_cache.py."""

import pytest
from datasets import Dataset, Image, List
from support.tiny import TRAINING, tiny_model, tiny_processor, tiny_row
from trl import DPOConfig, DPOTrainer

from trl_mm import MMDPOConfig, MMDPOTrainer


SETTINGS = {**TRAINING, "precompute_ref_log_probs": True, "max_length": None}


def rows():
    rejected = [{"role": "assistant", "content": "There is a dog."}]
    pairs = [{**tiny_row(seed), "rejected": rejected} for seed in range(3)]
    return Dataset.from_list(pairs).cast_column("images", List(Image()))


def given():
    return {"train_dataset": rows(), "processing_class": tiny_processor()}


def test_trl_refuses_the_setting_with_images(tmp_path):
    with pytest.raises(ValueError, match="not supported for vision datasets"):
        # Once this passes, `_is_vision_dataset` and `_prepare_dataset` in trainer/reference/precompute.py can go
        DPOTrainer(tiny_model(), args=DPOConfig(str(tmp_path), **SETTINGS), **given())


def test_parts_are_prepared_once_and_before_the_reference_runs(tmp_path, monkeypatch):
    calls = []
    for name in ("freeze_parts", "keep_gradients"):
        monkeypatch.setattr(f"trl_mm.trainer.parts.prepare.{name}", lambda *_, name=name: calls.append(name))
    compute = MMDPOTrainer.compute_ref_log_probs
    monkeypatch.setattr(
        MMDPOTrainer, "compute_ref_log_probs", lambda *args: calls.append("reference") or compute(*args)
    )
    args = MMDPOConfig(str(tmp_path), ref_log_probs_dir=str(tmp_path / "cache"), **SETTINGS)
    trainer = MMDPOTrainer(tiny_model(), args=args, **given())
    assert calls == ["freeze_parts", "keep_gradients", "reference"]
    assert trainer.ref_model is None and trainer.train_dataset.column_names[0] == "images"


def test_without_the_setting_rows_are_a_vision_dataset_to_trl(tmp_path):
    args = MMDPOConfig(str(tmp_path), **{**SETTINGS, "precompute_ref_log_probs": False})
    trainer = MMDPOTrainer(tiny_model(), ref_model=tiny_model(), args=args, **given())
    assert trainer._is_vision_dataset
