"""Batches of rows of similar length, in training and on their own."""

import pytest
from accelerate.data_loader import BatchSamplerShard, SkipBatchSampler
from hypothesis import given, settings
from hypothesis import strategies as st
from support.rows import image_dataset, said
from support.tiny import tiny_image, tiny_processor, tiny_row
from torch.utils.data import BatchSampler
from trl import DPOConfig

from trl_mm import BDHSConfig, BDHSDataGenerator, MMDPOConfig, MMDPOTrainer
from trl_mm.tokens.collator import PreferenceCollator
from trl_mm.trainer.length_grouping import LengthGroupedSampler


LENGTHS = st.lists(st.integers(1, 5), min_size=1, max_size=60)


def groups(lengths, seed=0, epoch=0):
    return LengthGroupedSampler(4, lengths, seed, epoch=lambda: epoch)


@settings(max_examples=20)
@given(LENGTHS, st.integers(0, 2**31), st.integers(0, 9))
def test_every_row_comes_once_in_an_order_of_seed_and_epoch(lengths, seed, epoch):
    sampler = groups(lengths, seed, epoch)
    order = list(sampler)
    assert sorted(order) == list(range(len(lengths))) and len(sampler) == len(lengths)
    assert order == list(sampler) == list(groups(lengths, seed, epoch))


def test_epochs_and_seeds_differ():
    lengths = list(range(40))
    orders = [tuple(groups(lengths, seed, epoch)) for seed, epoch in [(0, 0), (0, 1), (9, 0)]]
    assert len(set(orders)) == 3


@pytest.mark.parametrize("skipped", [0, 2])
def test_processes_share_an_epoch_also_when_it_is_gone_on_with(skipped):
    lengths, batches = list(range(32)), []
    for rank in range(2):  # each process has a sampler of its own
        shard = BatchSamplerShard(
            BatchSampler(groups(lengths, epoch=3), 4, drop_last=False), num_processes=2, process_index=rank
        )
        batches.append(list(SkipBatchSampler(shard, skipped)))
    undisturbed = list(BatchSampler(groups(lengths, epoch=3), 4, drop_last=False))
    assert [batch for pair in zip(*batches, strict=True) for batch in pair] == undisturbed[2 * skipped :]


def mixed(count=16, rejected=True):
    """Rows without images beside rows with two."""
    rows = []
    for index in range(count):
        row = tiny_row(index)
        row["images"] = [tiny_image(seed, (90, 70)) for seed in range(2 * (index % 2))]
        rows.append({**row, "rejected": said("There is a dog.")} if rejected else row)
    return image_dataset(rows)


class Recorder(PreferenceCollator):
    """Notes the rows of every batch that is trained on."""

    def torch_call(self, examples):
        self.batches.append([example["row_id"] for example in examples])
        return super().torch_call(examples)


def run(checkpoint, folder, resume=None, config=MMDPOConfig, train_dataset=None, callbacks=None, **settings):
    arguments = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 2,
        "num_train_epochs": 1,
        "learning_rate": 1e-2,
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
        "report_to": "none",
        "save_strategy": "no",
        "max_length": None,
        "bf16": False,
        "use_cpu": True,
        "train_sampling_strategy": "group_by_length",
    }
    collator = Recorder(tiny_processor())
    collator.batches = []
    trainer = MMDPOTrainer(
        checkpoint,
        args=config(**{**arguments, **settings}),
        data_collator=collator,
        train_dataset=mixed() if train_dataset is None else train_dataset,
        callbacks=callbacks,
    )
    trainer.train(resume_from_checkpoint=resume)
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    return collator.batches, logs, trainer


def flat(batches):
    return [row for batch in batches for row in batch]


@pytest.mark.parametrize("config", [MMDPOConfig, DPOConfig])
def test_grouping_spares_padding_and_shows_every_row_once_an_epoch(checkpoint, tmp_path, config):
    rows = mixed(32)
    batches, logs, trainer = run(checkpoint, tmp_path, train_dataset=rows, num_train_epochs=2, config=config)
    assert sorted(flat(batches[:16])) == sorted(flat(batches[16:])) == sorted(rows["row_id"])
    assert batches[:16] != batches[16:]
    _, shuffled, _ = run(checkpoint, tmp_path, train_dataset=rows, train_sampling_strategy="random", config=config)
    padding = [sum(entry["padding"] for entry in log) / len(log) for log in (logs, shuffled)]
    assert padding[0] < 0.15 and padding[1] > 0.25
    expected = trainer.fit_report["train"].padding
    assert expected[1] < 0.2 and expected[0] > 0.25


def test_equal_seeds_give_equal_batches(checkpoint, tmp_path):
    first = run(checkpoint, tmp_path)[0]
    assert first == run(checkpoint, tmp_path)[0]
    assert first != run(checkpoint, tmp_path, data_seed=3)[0]


def test_a_run_resumed_in_its_second_epoch_sees_the_same_batches(checkpoint, tmp_path):
    settings = {"num_train_epochs": 2, "save_strategy": "steps", "save_steps": 3, "max_steps": 7}
    rows = mixed(8)
    batches, logs, _ = run(checkpoint, tmp_path / "first", train_dataset=rows, **settings)
    resume = str(tmp_path / "first" / "checkpoint-6")
    again, resumed, _ = run(checkpoint, tmp_path / "second", resume, train_dataset=rows, **settings)
    assert again[0] == batches[6]
    assert resumed[-1]["loss"] == pytest.approx(logs[-1]["loss"], rel=1e-5)


def test_dropped_rows_leave_their_place_to_others(checkpoint, tmp_path):
    batches, _, trainer = run(checkpoint, tmp_path, max_length=60)  # tokens; two images take 48
    assert trainer.fit_report["train"].num_dropped == 8
    assert sorted(flat(batches)) == sorted(trainer.train_dataset["row_id"][:]) and len(trainer.train_dataset) == 8


@pytest.mark.parametrize("online", [True, False])
def test_pairs_that_are_made_come_by_length(checkpoint, tmp_path, online):
    generator = BDHSDataGenerator(
        BDHSConfig(similarity="lexical", max_sentence_tokens=3, max_answer_tokens=3), online=online
    )
    batches, _, trainer = run(checkpoint, tmp_path, train_dataset=mixed(rejected=False), callbacks=[generator])
    counts, ids = trainer.fit_report["train"].counts, trainer.train_dataset["row_id"]
    assert (counts.rejected > 0).all() == (not online)
    order = LengthGroupedSampler(2, counts.total.tolist(), trainer.args.seed, epoch=lambda: 0)
    # Online, a batch is collated again when its pairs are made
    assert flat(dict.fromkeys(map(tuple, batches))) == [ids[index] for index in order]


def test_evaluation_keeps_its_order(checkpoint, tmp_path):
    batches, _, trainer = run(checkpoint, tmp_path, max_steps=1)
    batches.clear()
    metrics = trainer.evaluate(mixed(4))
    assert flat(batches) == ["0", "1", "2", "3"] and 0 <= metrics["eval_padding"] < 1


def test_batches_of_different_sizes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="batch_rebalance.*group_by_length"):
        MMDPOConfig(str(tmp_path), train_sampling_strategy="batch_rebalance")
