"""Arguments of TRL in place of ours, and rows with columns that no trainer asked for."""

from dataclasses import fields

import pytest
from datasets import Dataset, Image, List
from support.tiny import TRAINING, tiny_model, tiny_processor, tiny_row
from trl import DPOConfig
from trl.experimental.online_dpo import OnlineDPOConfig

from trl_mm import MMDPOConfig, MMDPOTrainer, MMOnlineDPOConfig, MMOnlineDPOTrainer
from trl_mm.trainer.rows_config import fill_defaults


CONFIGS = pytest.mark.parametrize(
    ("plain", "ours"), [(DPOConfig, MMDPOConfig), (OnlineDPOConfig, MMOnlineDPOConfig)], ids=["dpo", "online-dpo"]
)


@CONFIGS
def test_a_configuration_of_trl_gets_our_defaults_and_keeps_its_own(plain, ours, tmp_path):
    args, full = (cls(str(tmp_path), bf16=False) for cls in (plain, ours))
    before = {item.name: getattr(args, item.name) for item in fields(plain)}
    fill_defaults(args, ours)
    added = [item.name for item in fields(ours) if item.name not in before]
    assert {"overlong", "prefix_sharing", "projector_learning_rate"} <= set(added)
    assert {name: getattr(args, name) for name in added} == {name: getattr(full, name) for name in added}
    assert {name: getattr(args, name) for name in before} == {**before, "remove_unused_columns": False}


@CONFIGS
def test_settings_that_are_given_stay(plain, ours, tmp_path):
    args = ours(str(tmp_path), bf16=False, overlong="error", prefix_sharing=False)
    fill_defaults(args, ours)
    assert args.overlong == "error" and args.prefix_sharing is False


@pytest.mark.parametrize(
    ("trainer", "config", "settings"),
    [
        (MMDPOTrainer, MMDPOConfig, {}),
        (MMDPOTrainer, DPOConfig, {}),
        (MMOnlineDPOTrainer, MMOnlineDPOConfig, {"offline_probability": 1.0}),
    ],
    ids=["dpo", "dpo plain", "online-dpo"],
)
def test_columns_that_nobody_wants_change_nothing_whatever_is_removed(
    trainer, config, settings, tmp_path, caplog, recwarn
):
    rows = [{**tiny_row(seed), "rejected": [{"role": "assistant", "content": "No."}]} for seed in range(4)]
    noise = {"labels": "x", "input_ids": [1, 2], "weight": "3 kg", "pixel_values": None}

    def losses(rows, **more):
        dataset = Dataset.from_list(rows).cast_column("images", List(Image()))
        args = config(
            str(tmp_path), per_device_train_batch_size=2, max_steps=2, logging_steps=1, **TRAINING, **settings, **more
        )
        models = {"model": tiny_model(scale=4), "ref_model": tiny_model(scale=4)}
        made = trainer(**models, args=args, train_dataset=dataset, processing_class=tiny_processor())
        made.train()
        return [entry["loss"] for entry in made.state.log_history if "loss" in entry]

    expected = losses(rows)
    for removes in (True, False):
        assert losses([{**row, **noise} for row in rows], remove_unused_columns=removes) == expected
    assert not [w for w in recwarn if "column" in str(w.message)]
    assert not [record for record in caplog.records if "column" in record.getMessage()]
