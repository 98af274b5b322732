"""Batches that workers make are those that the training process would have made, and how long they take is said."""

import multiprocessing
import os
from itertools import count

import pytest
from peft import LoraConfig
from support.rows import image_dataset, tiny_pairs
from support.tiny import TRAINING
from support.training import losses
from torch._utils import ExceptionWrapper
from trl import DPOConfig

from trl_mm import MMDPOConfig, MMDPOTrainer
from trl_mm.data.image_forms import ImageError
from trl_mm.tokens.collator import PreferenceCollator
from trl_mm.trainer import loading_ahead


def trainer_of(checkpoint, folder, workers, rows=None, cls=MMDPOConfig, **settings):
    args = cls(
        str(folder),
        **{
            **TRAINING,
            "dataloader_num_workers": workers,
            "per_device_train_batch_size": 2,
            "max_steps": 4,
            "learning_rate": 1e-3,
            "logging_steps": 1,
            "check_images": False,
            **settings,
        },
    )
    rows = image_dataset(tiny_pairs()) if rows is None else rows
    return MMDPOTrainer(checkpoint, args=args, train_dataset=rows, peft_config=LoraConfig(r=2, lora_dropout=0.3))


def test_losses_do_not_depend_on_workers(checkpoint, tmp_path):
    """Three epochs, with a dropout that would show if workers took of the training process's random numbers."""
    settings = {"disable_dropout": False, "max_steps": 6}
    runs = [losses(trainer_of(checkpoint, tmp_path, workers, **settings)) for workers in (0, 1, 2)]
    assert len(set(runs[0])) == 6
    assert runs[0] == runs[1] == runs[2]


def test_a_resumed_run_with_workers_is_one_that_was_not_stopped(checkpoint, tmp_path):
    """Stopped in the first of three epochs."""
    settings = {"save_strategy": "steps", "save_steps": 1, "disable_dropout": False, "max_steps": 6}
    whole = losses(trainer_of(checkpoint, tmp_path, 1, **settings))
    again = trainer_of(checkpoint, tmp_path, 1, **settings)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    assert [entry["loss"] for entry in again.state.log_history if "loss" in entry] == whole


class NamesItsProcess(PreferenceCollator):
    """A collator that writes down which process it runs in."""

    def torch_call(self, examples):
        with open(os.environ["PROCESSES"], "a", encoding="utf-8") as file:
            file.write(f"{os.getpid()}\n")
        return super().torch_call(examples)


@pytest.mark.parametrize(("workers", "processes"), [(0, 1), (1, 1), (2, 2)])
def test_workers_live_for_all_epochs_and_no_longer(checkpoint, tmp_path, monkeypatch, workers, processes):
    monkeypatch.setenv("PROCESSES", str(tmp_path / "processes"))
    before = multiprocessing.active_children()
    trainer = trainer_of(checkpoint, tmp_path, workers, max_steps=6)
    trainer.data_collator.__class__ = NamesItsProcess
    trainer.train()
    seen = {int(line) for line in (tmp_path / "processes").read_text().split()}
    assert len(seen) == processes
    assert (os.getpid() in seen) == (workers == 0)
    assert multiprocessing.active_children() == before
    # transformers would keep the loader of the first rows that are evaluated
    assert not trainer.args.dataloader_persistent_workers


def test_each_evaluation_sees_its_own_rows_with_workers(checkpoint, tmp_path):
    trainer = trainer_of(checkpoint, tmp_path, 1, max_steps=1)
    rows = image_dataset(tiny_pairs(2)), image_dataset(tiny_pairs(2, "It is late. The sky is blue!"))
    found = [trainer.evaluate(part)["eval_logps/rejected"] for part in rows]
    assert found[0] != found[1]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_cannot_be_decoded_is_one_line_with_its_row(checkpoint, tmp_path, workers):
    rows = tiny_pairs(2)
    rows = image_dataset(rows).map(lambda row: {**row, "row_id": f"row-{row['row_id']}"})
    bad = rows.to_list()
    bad[1]["images"][0] = {"bytes": bad[1]["images"][0]["bytes"][:60], "path": None}
    rows = rows.from_list(bad, features=rows.features)
    trainer = trainer_of(checkpoint, tmp_path, workers, rows)
    with pytest.raises(ImageError) as error:
        trainer.train()
    assert str(error.value).startswith("Row row-1: An image of 60 bytes cannot be decoded")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("message", ["Row 3: bad", "Row 3: two lines.\nCure: leave it out", ""])
def test_the_whole_message_of_a_worker_is_said(message):
    def fail():
        try:
            raise KeyError("first")
        except KeyError as error:
            raise ValueError(message) from error

    try:
        fail()
    except ValueError:
        caught = ExceptionWrapper(where="in DataLoader worker process 0")
    with pytest.raises(ValueError) as error, loading_ahead.errors_of_workers():
        caught.reraise()
    assert str(error.value) == message


def test_errors_that_are_no_workers_stay_as_they_are():
    with pytest.raises(ValueError, match="^a\nb: c$"), loading_ahead.errors_of_workers():
        raise ValueError("a\nb: c")


def test_the_wait_for_the_batches_of_a_step_is_a_metric(checkpoint, tmp_path, monkeypatch):
    """With a clock that goes on by 1 whenever it is read: one second from before the batches to behind them."""
    clock = count()
    monkeypatch.setattr(loading_ahead.time, "perf_counter", lambda: float(next(clock)))
    trainer = trainer_of(checkpoint, tmp_path, 0, gradient_accumulation_steps=2, max_steps=2)
    read = []
    trainer.data_collator.torch_call = lambda examples, call=trainer.data_collator.torch_call: (
        read.append(next(clock)) or call(examples)
    )
    trainer.train()
    waits = [entry["loader_wait"] for entry in trainer.state.log_history if "loader_wait" in entry]
    assert len(waits) == 2 and sum(waits) >= 2 + len(read)


def test_a_plain_config_of_trl_trains_too(checkpoint, tmp_path):
    settings = {"max_steps": 1, "max_length": None}
    args = DPOConfig(str(tmp_path), per_device_train_batch_size=2, logging_steps=1, **settings, **TRAINING)
    trainer = MMDPOTrainer(checkpoint, args=args, train_dataset=image_dataset(tiny_pairs(2)))
    assert len(losses(trainer)) == 1 and "loader_wait" in trainer.state.log_history[0]
