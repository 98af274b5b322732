"""Rows that would reach into a trainer: columns named as its own, and images that nobody has checked."""

import io

import PIL.EpsImagePlugin
import PIL.Image
import pytest
import torch
from datasets import Dataset, DatasetDict, Image, List
from support.rows import image_dataset, said
from support.tiny import TRAINING, tiny_model, tiny_processor, tiny_row

from trl_mm import BDHSConfig, BDHSDataGenerator, MMDPOConfig, MMDPOTrainer, MMOnlineDPOConfig, MMOnlineDPOTrainer
from trl_mm.data.images import ImageError
from trl_mm.data.rows import INTERNAL_COLUMNS


SAID = said("There is a dog.")


def rows(count=4, **columns):
    made = [tiny_row(seed, rejected=SAID, **columns) for seed in range(count)]
    return image_dataset(made)


def trained(folder, dataset, callbacks=(), **settings):
    """The trainer and what it logged in two steps."""
    online = "offline_probability" in settings
    args = (MMOnlineDPOConfig if online else MMDPOConfig)(
        **{
            "output_dir": str(folder),
            "per_device_train_batch_size": 2,
            "max_steps": 2,
            "learning_rate": 1e-3,
            "logging_steps": 1,
            **TRAINING,
            **settings,
        }
    )
    trainer = (MMOnlineDPOTrainer if online else MMDPOTrainer)(
        tiny_model(scale=4),
        ref_model=tiny_model(scale=4),
        args=args,
        train_dataset=dataset,
        processing_class=tiny_processor(),
        callbacks=list(callbacks),
    )
    trainer.train()
    return trainer, [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def hostile(dataset):
    """The rows with columns that trainers fill in themselves."""
    columns = {
        "answer_ids": [[[7, 8, 9], [8]]],
        "vllm_prompt": [[1, 2, 3]],
        "second_rejected": [[{"role": "assistant", "content": "Yes."}]],
        "ref_chosen_logps": [-1.0],
        "ref_rejected_logps": [-9.0],
    }
    assert columns.keys() == set(INTERNAL_COLUMNS)
    for name, values in columns.items():
        dataset = dataset.add_column(name, values * len(dataset))
    return dataset


@pytest.mark.parametrize(
    ("bdhs", "settings"),
    [
        (None, {}),
        (None, {"precompute_ref_log_probs": True}),
        (None, {"offline_probability": 1.0}),
        ({}, {}),
        ({"online": False}, {}),
        ({"rejected_weight": 0.5}, {}),
    ],
    ids=["dpo", "precomputed", "online-dpo", "bdhs", "bdhs before", "two rejected"],
)
def test_columns_named_as_those_of_trainers_change_nothing(tmp_path, monkeypatch, caplog, bdhs, settings):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    if "precompute_ref_log_probs" in settings:
        settings = {**settings, "ref_log_probs_dir": str(tmp_path / "reference")}
    config = BDHSConfig(similarity="lexical", max_sentence_tokens=4, max_answer_tokens=4, mask_threshold=0.5)

    def run(name, dataset):
        callbacks = [] if bdhs is None else [BDHSDataGenerator(config, **bdhs)]
        return trained(tmp_path / name, dataset, callbacks, **settings)[1]

    plain = run("plain", rows())
    assert "left out" not in caplog.text
    assert run("hostile", hostile(rows())) == plain
    assert "Columns of the train dataset are named as what trainers compute" in caplog.text


def test_columns_named_as_those_of_trainers_do_not_evaluate_either(tmp_path):
    trainer, _ = trained(tmp_path / "plain", rows(), precompute_ref_log_probs=True, ref_log_probs_dir=str(tmp_path))
    assert trainer.evaluate(hostile(rows(2)))["eval_loss"] == trainer.evaluate(rows(2))["eval_loss"]


def truncated():
    buffer = io.BytesIO()
    tiny_row(0)["images"][0].resize((200, 200)).save(buffer, "JPEG")
    return buffer.getvalue()[: buffer.tell() // 2]


def postscript():
    buffer = io.BytesIO()
    PIL.Image.new("RGB", (4, 4)).save(buffer, "EPS")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "bdhs", "settings"),
    [
        (truncated, None, {}),
        (postscript, None, {"offline_probability": 1.0}),
        (postscript, {}, {}),
        (truncated, {"online": False}, {}),
    ],
    ids=["dpo", "online-dpo", "bdhs", "bdhs before"],
)
def test_an_unchecked_image_is_an_error_that_names_its_row(tmp_path, monkeypatch, content, bdhs, settings):
    monkeypatch.setattr(PIL.EpsImagePlugin, "Ghostscript", lambda *args, **kwargs: pytest.fail("Ghostscript started"))
    made = [tiny_row(seed, rejected=SAID) for seed in range(2)]
    made[1]["images"] = [{"bytes": content(), "path": None}]
    callbacks = [] if bdhs is None else [BDHSDataGenerator(BDHSConfig(similarity="lexical"), **bdhs)]
    # Sizes, which are looked at before, are those of an image that is whole
    monkeypatch.setattr("trl_mm.tokens.lengths.image_size", lambda image: (30, 40))
    with pytest.raises(ImageError, match="Row 1: An image of .*check_images=True"):
        trained(tmp_path, Dataset.from_list(made), callbacks, check_images=False, **settings)


def test_other_columns_of_images_are_not_opened(tmp_path):
    made = [{"bytes": b"no image", "path": None}] * 4
    dataset = rows().add_column("thumbnail", made).add_column("more", [{"inside": [made[0]]}] * 4)
    dataset = dataset.cast_column("thumbnail", Image()).cast_column("more", {"inside": List(Image())})
    assert len(trained(tmp_path, dataset, [BDHSDataGenerator(BDHSConfig(similarity="lexical"))])[1]) == 2


def test_reward_functions_get_their_own_completions(tmp_path):
    def reward(completions, **columns):
        assert completions[0] != "x" and columns["completion_ids"][0] != "x"
        return [float(len(str(completion))) for completion in completions]

    dataset = rows(prompts="x", completions="x", completion_ids="x", trainer_state="x")
    args = MMOnlineDPOConfig(
        output_dir=str(tmp_path), per_device_train_batch_size=2, max_steps=1, max_new_tokens=4, **TRAINING
    )
    trainer = MMOnlineDPOTrainer(
        tiny_model(scale=4),
        ref_model=tiny_model(scale=4),
        reward_funcs=reward,
        args=args,
        train_dataset=dataset,
        processing_class=tiny_processor(),
    )
    trainer.train()
    assert trainer.state.global_step == 1


def test_splits_are_not_trained_on_as_one(tmp_path):
    with pytest.raises(ValueError, match="`train_dataset` has several splits: train, test. Pass the one to train on"):
        trained(tmp_path, DatasetDict(train=rows(), test=rows()))


def test_garbage_in_exif_trains_like_the_image_without_it(tmp_path):
    torch.manual_seed(0)
    buffer = io.BytesIO()
    made = tiny_row(0, rejected=SAID)
    made["images"][0].save(buffer, "PNG", exif=b"Exif\0\0garbage garbage")
    losses = []
    for name, image in (("plain", made["images"][0]), ("garbage", {"bytes": buffer.getvalue(), "path": None})):
        dataset = Dataset.from_list([{**made, "images": [image]}] * 2)
        losses.append(trained(tmp_path / name, dataset)[1])
    assert losses[0] == losses[1]
