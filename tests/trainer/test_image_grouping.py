"""Batches of rows that show the same images, in training and on their own."""

from collections import Counter

import pytest
from accelerate.data_loader import BatchSamplerShard, SkipBatchSampler
from hypothesis import given, settings
from hypothesis import strategies as st
from support.rows import image_dataset, said
from support.tiny import TRAINING, tiny_image, tiny_model, tiny_processor, tiny_row
from torch.utils.data import BatchSampler

from trl_mm import MMDPOConfig, MMDPOTrainer, MMRewardConfig
from trl_mm.data.images import resolve_image
from trl_mm.tokens.collator import PreferenceCollator
from trl_mm.trainer.image_grouping import ImageGroupedSampler, row_keys


# Number of the image and of the prompt of each row
KEYS = st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("xyz")), min_size=1, max_size=40)


def sampler(keys, batch_size=4, seed=0, epoch=0, lengths=None):
    return ImageGroupedSampler(batch_size, keys, seed, epoch=lambda: epoch, lengths=lengths)


def batches(order, batch_size=4):
    return list(BatchSampler(order, batch_size, drop_last=False))


def num_parts(keys, found):
    """Batches that show each image, summed over images: what is encoded in an epoch."""
    return sum(len({keys[row][0] for row in batch}) for batch in found)


@settings(max_examples=50)
@given(KEYS, st.integers(1, 6), st.integers(0, 2**31), st.integers(0, 9), st.booleans())
def test_every_row_comes_once_in_an_order_of_seed_and_epoch(keys, batch_size, seed, epoch, by_length):
    lengths = list(range(len(keys))) if by_length else None
    made = sampler(keys, batch_size, seed, epoch, lengths)
    order = list(made)
    assert sorted(order) == list(range(len(keys))) and len(made) == len(keys)
    assert order == list(made) == list(sampler(keys, batch_size, seed, epoch, lengths))


@settings(max_examples=50)
@given(KEYS, st.integers(1, 6))
def test_an_image_is_parted_as_rarely_as_batches_allow(keys, batch_size):
    found = batches(sampler(keys, batch_size), batch_size)
    counts = Counter(image for image, _ in keys)
    least = sum(-(-count // batch_size) for count in counts.values())
    # What fills no batch together follows one another, and each border between such batches may part one image
    assert num_parts(keys, found) <= least + sum(-(-len(rows) // batch_size) for rows in [keys]) + len(counts)
    if len(keys) % batch_size == 0 and all(batch_size % count == 0 for count in counts.values()):
        assert num_parts(keys, found) == least


def test_groups_that_fill_batches_are_not_parted():
    keys = [(f"image {row // 6}", "x") for row in range(60)]  # six pairs of each prompt
    for size in (6, 12):
        assert num_parts(keys, batches(sampler(keys, size), size)) == 10
    keys = [(image, "x") for image in "aabbccddeeefffgh"]  # 2, 3 and 1 rows
    assert num_parts(keys, batches(sampler(keys))) == 8
    # In whatever order they come: threes with threes, since nothing fills up a three and a two
    keys = [(f"{size} {row // size}", "x") for size in (2, 3) for row in range(30 * size)]
    for epoch in range(5):
        assert num_parts(keys, batches(sampler(keys, 6, epoch=epoch), 6)) == 60
    # A large group: pairs of one prompt are together
    keys = [("a", prompt) for prompt in "uuvvwwxxyyzz"]
    for batch in batches(sampler(keys)):
        assert sorted(Counter(keys[row][1] for row in batch).values()) == [2, 2]


def test_epochs_and_seeds_differ_in_which_images_meet():
    keys = [(f"image {row // 2}", "x") for row in range(40)]
    met = [
        {frozenset(keys[row][0] for row in batch) for batch in batches(sampler(keys, seed=seed, epoch=epoch))}
        for seed, epoch in ((0, 0), (0, 1), (9, 0))
    ]
    assert met[0] != met[1] != met[2] != met[0]


def test_groups_of_similar_length_share_a_batch():
    keys = [(f"image {row // 2}", "x") for row in range(80)]
    lengths = [10 * (row // 2 % 5) + row % 2 for row in range(80)]
    found = batches(sampler(keys, lengths=lengths))
    assert num_parts(keys, found) == 40
    assert all(len({lengths[row] // 10 for row in batch}) == 1 for batch in found)
    assert max(lengths) in [lengths[row] for row in found[0]]


@pytest.mark.parametrize("skipped", [0, 2])
def test_processes_share_an_epoch_also_when_it_is_gone_on_with(skipped):
    keys, shares = [(f"image {row // 3}", "x") for row in range(48)], []
    for rank in range(2):  # each process has a sampler of its own
        shard = BatchSamplerShard(
            BatchSampler(sampler(keys, epoch=3), 4, drop_last=False), num_processes=2, process_index=rank
        )
        shares.append(list(SkipBatchSampler(shard, skipped)))
    undisturbed = batches(sampler(keys, epoch=3))
    assert [batch for pair in zip(*shares, strict=True) for batch in pair] == undisturbed[2 * skipped :]


def test_rows_are_known_by_images_and_prompts(tmp_path):
    path = str(tmp_path / "a.png")
    tiny_image(0).save(path)
    asked = [{"role": "user", "content": "What is it?"}], [{"role": "user", "content": "Is it a dog?"}]
    held = resolve_image(tiny_image(1))
    shown = [[path], [path], [held], [held], [path, path], [], [], []]
    prompts = [asked[0], asked[1], asked[0], asked[0], asked[0], asked[0], asked[1], asked[0]]
    rows = image_dataset(
        [
            {"images": list(map(resolve_image, images)), "prompt": prompt}
            for images, prompt in zip(shown, prompts, strict=True)
        ]
    )
    images, texts = zip(*row_keys(rows), strict=True)
    assert [images.index(key) for key in images] == [0, 0, 2, 2, 4, 5, 6, 5]
    assert [texts.index(key) for key in texts] == [0, 1, 0, 0, 0, 0, 1, 0]
    assert row_keys(rows.select([3, 0])) == [row_keys(rows)[3], row_keys(rows)[0]]
    texts = image_dataset([{"images": [], "prompt": "x"}, {"images": [], "prompt": "y"}])
    assert len(set(row_keys(texts))) == 2


class Recorder(PreferenceCollator):
    """Notes the rows of every batch that is trained on."""

    def torch_call(self, examples):
        self.batches.append([example["row_id"] for example in examples])
        return super().torch_call(examples)


def pairs_of_images(num_images=4, num_pairs=3):
    return image_dataset(
        [
            {**tiny_row(number % num_images, rejected=said(f"No. {number}")), "row_id": str(number)}
            for number in range(num_images * num_pairs)
        ]
    )


def run(folder, resume=None, **changes):
    arguments = {
        "per_device_train_batch_size": 3,
        "num_train_epochs": 2,
        "learning_rate": 1e-2,
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
        "max_length": None,
        "group_by_image": True,
        **TRAINING,
        **changes,
    }
    trainer = MMDPOTrainer(
        tiny_model(),
        tiny_model(),
        args=MMDPOConfig(str(folder), **arguments),
        train_dataset=pairs_of_images(),
        processing_class=tiny_processor(),
    )
    collator = trainer.pair_collator
    trainer.data_collator = Recorder(**{name: getattr(collator, name) for name in ("processor", "max_length")})
    trainer.data_collator.images_per_prompt = trainer.data_collator.images_per_group = True
    trainer.data_collator.batches = []
    trainer.train(resume_from_checkpoint=resume)
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    return trainer.data_collator.batches, logs


@pytest.mark.parametrize("strategy", ["random", "group_by_length"])
def test_rows_of_an_image_are_trained_on_together(tmp_path, strategy):
    found, logs = run(tmp_path, train_sampling_strategy=strategy)
    assert all(len({int(row) % 4 for row in batch}) == 1 for batch in found) and len(found) == 8
    assert sorted(row for batch in found[:4] for row in batch) == sorted(map(str, range(12)))
    assert found[:4] != found[4:]
    alone = run(tmp_path, group_by_image=False)[1]
    assert min(entry["shared_tokens"] for entry in logs) > max(entry["shared_tokens"] for entry in alone)


def test_a_resumed_run_sees_the_same_batches(tmp_path):
    settings = {"save_strategy": "steps", "save_steps": 5, "max_steps": 7}
    found, logs = run(tmp_path / "first", **settings)
    again, resumed = run(tmp_path / "second", str(tmp_path / "first" / "checkpoint-5"), **settings)
    assert again[:2] == found[5:7]  # what comes after is fetched, too
    assert resumed[-1]["loss"] == pytest.approx(logs[-1]["loss"], rel=1e-5)


@pytest.mark.parametrize("config", [MMDPOConfig, MMRewardConfig])
def test_an_order_of_rows_of_its_own_is_refused(tmp_path, config):
    with pytest.raises(ValueError, match="group_by_image=True.*train_sampling_strategy='sequential'"):
        config(str(tmp_path), bf16=False, group_by_image=True, train_sampling_strategy="sequential")
