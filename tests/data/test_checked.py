import gc

import pytest
from datasets import Dataset, Image, List
from support.tiny import tiny_row

from trl_mm.data import checked
from trl_mm.data.checked import is_checked
from trl_mm.data.loading import prepare_preferences
from trl_mm.data.rows import PREFERENCE_COLUMNS


def rows():
    rejected = [{"role": "assistant", "content": "There is a dog."}]
    pairs = [{**tiny_row(seed), "row_id": str(seed), "rejected": rejected} for seed in range(3)]
    return Dataset.from_list(pairs).cast_column("images", List(Image()))


@pytest.mark.parametrize(
    ("settings", "images", "known"),
    [
        ({}, True, True),
        ({}, False, True),
        ({"check_images": False}, False, True),
        ({"check_images": False}, True, False),
        ({"needs": ("images", "prompt")}, True, False),
        ({"on_bad_image": "keep"}, True, False),
    ],
)
def test_what_has_been_checked_is_known(settings, images, known):
    assert is_checked(prepare_preferences(rows(), **settings), PREFERENCE_COLUMNS, images) == known


def test_fewer_columns_are_known_too():
    assert is_checked(prepare_preferences(rows()), ("images", "prompt"), True)


@pytest.mark.parametrize(
    "change",
    [
        lambda dataset: dataset.map(lambda row: {"chosen": row["rejected"]}),
        lambda dataset: dataset.select([0, 2]),
        lambda dataset: dataset.shuffle(seed=1),
        lambda dataset: dataset.remove_columns("rejected"),
        lambda dataset: dataset.with_transform(lambda batch: batch),
        lambda dataset: dataset.set_transform(lambda batch: batch) or dataset,
        lambda dataset: list(dataset),
        lambda dataset: rows(),
    ],
    ids=["map", "select", "shuffle", "column", "transform", "in place", "list", "made anew"],
)
def test_what_is_changed_afterwards_is_not(change):
    dataset = prepare_preferences(rows())
    assert is_checked(dataset, PREFERENCE_COLUMNS, True)
    assert not is_checked(change(dataset), PREFERENCE_COLUMNS, True)


def test_a_dataset_is_not_kept_for_it():
    gc.collect()
    before = len(checked._CHECKED)
    dataset = prepare_preferences(rows())
    assert len(checked._CHECKED) == before + 1
    del dataset
    gc.collect()
    assert len(checked._CHECKED) == before
