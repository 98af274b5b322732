"""Several datasets as one: what is drawn, how columns go together, and that images are not touched."""

from collections import Counter

import pytest
from datasets import Dataset, Image, List
from hypothesis import given
from hypothesis import strategies as st
from support.rows import said
from support.tiny import tiny_image

from trl_mm.data.checked import is_checked, mark_checked
from trl_mm.data.loading import prepare_preferences
from trl_mm.data.mixing import drawn_copies, mix_datasets
from trl_mm.data.rows import PREFERENCE_COLUMNS


def rows(count, first="What?", **columns):
    return prepare_preferences(
        [
            {
                "images": [tiny_image(number)],
                "prompt": [{"role": "user", "content": first}],
                "chosen": said(f"Chosen {number}."),
                "rejected": said("Another."),
                **columns,
            }
            for number in range(count)
        ]
    )


def numbers(name, count):
    return Dataset.from_dict({"row_id": [str(number) for number in range(count)], "name": [name] * count})


@given(
    counts=st.lists(st.integers(1, 30), min_size=1, max_size=3), weight=st.floats(0.01, 4.5), seed=st.integers(0, 3)
)
def test_every_row_is_there_as_often_as_the_weight_says(counts, weight, seed):
    parts = {f"d{index}": numbers(f"d{index}", count) for index, count in enumerate(counts)}
    mixed = mix_datasets(parts, {"d0": weight}, seed=seed)
    ids = mixed["row_id"]
    assert len({*ids}) == len(ids)
    assert all(row_id.startswith(f"{name}:") for row_id, name in zip(ids, mixed["name"], strict=True))
    found = Counter(":".join(row_id.split(":")[:2]) for row_id in ids)
    own = [found[f"d0:{number}"] for number in range(counts[0])]
    assert sum(own) == max(1, round(weight * counts[0])) or abs(sum(own) - weight * counts[0]) <= 0.5
    assert max(own) - min(own) <= 1, "nothing is drawn twice before all are drawn once"
    assert all(found[f"d{index}:{n}"] == 1 for index, count in enumerate(counts) if index for n in range(count))
    assert mix_datasets(parts, {"d0": weight}, seed=seed)["row_id"] == ids


def test_the_order_is_random_and_depends_on_the_seed_alone():
    parts = {"a": numbers("a", 50), "b": numbers("b", 50)}
    first, second = mix_datasets(parts)["name"], mix_datasets(parts, seed=1)["name"]
    assert first != second and 10 < Counter(first[:50])["a"] < 40
    drawn = [mix_datasets(parts, {"a": 0.2}, {"a": seed}) for seed in (0, 1)]
    kept = [sorted(row_id for row_id in rows["row_id"] if row_id.startswith("a")) for rows in drawn]
    assert kept[0] != kept[1] and len(kept[0]) == len(kept[1]) == 10


@pytest.mark.parametrize("weight", [0, -1, 101, float("nan"), float("inf")])
def test_weights_that_make_no_sense_are_refused(weight):
    with pytest.raises(ValueError, match="`weight` must be above 0 and at most 100, got"):
        drawn_copies("a", numbers("a", 2), weight, 0)


def test_sources_are_kept_or_set():
    mixed = mix_datasets({"a": rows(1, source="coco"), "b": rows(2), "c": rows(1, source=None)})
    assert {row["row_id"]: row["source"] for row in mixed} == {"a:0": "coco", "b:0": "b", "b:1": "b", "c:0": "c"}
    assert all(row["mixture_part"] == row["row_id"].partition(":")[0] for row in mixed)


def test_messages_of_texts_and_of_parts_go_together():
    texts, parts = rows(2), rows(2, first="<image> What? <image>"[8:] + " Where?")
    mixed = mix_datasets({"texts": texts, "parts": parts})
    placed = {row["row_id"]: row for row in mixed}
    assert [part["type"] for part in placed["parts:0"]["prompt"][0]["content"]] == ["text", "image", "text"]
    assert [part["type"] for part in placed["texts:0"]["prompt"][0]["content"]] == ["image", "text"]
    answer = placed["texts:1"]["chosen"][0]["content"]
    assert answer in ("Chosen 1.", [{"type": "text", "text": "Chosen 1."}])
    checked = prepare_preferences(mixed)
    assert checked["row_id"] == mixed["row_id"], "what is mixed is in the format"


def test_columns_that_differ_become_one():
    """Missing ones are empty, numbers and texts become texts, and keys may stand in another order."""
    parts = {
        "a": rows(2, rating=1.5, scores={"x": 1}),
        "b": rows(2, rating="good", language="en"),
        "c": prepare_preferences(
            [{**row, "prompt": [{"content": "Who?", "role": "user"}], "rating": None} for row in rows(2)]
        ),
    }
    mixed = {row["row_id"]: row for row in mix_datasets(parts)}
    assert [mixed[name]["rating"] for name in ("a:0", "b:0", "c:0")] == ["1.5", "good", None]
    assert [mixed[name]["language"] for name in ("a:0", "b:0", "c:0")] == [None, "en", None]
    assert mixed["a:0"]["scores"] == {"x": 1} and mixed["c:1"]["prompt"][0]["content"] == "Who?"


def test_images_are_those_of_the_rows_and_stay_as_they_are_stored(tmp_path):
    parts = {"a": rows(3), "b": rows(3, rating=1.0), "c": rows(3, rating="1")}
    stored = {
        name: dataset.cast_column("images", List(Image(decode=False)))["images"] for name, dataset in parts.items()
    }
    mixed = mix_datasets(parts, {"a": 2, "b": 0.5}).cast_column("images", List(Image(decode=False)))
    assert {row_id.split(":")[0] for row_id in mixed["row_id"]} == {*parts}
    for row in mixed:
        name, number, *_ = row["row_id"].split(":")
        assert row["images"][0]["bytes"] == stored[name][int(number)][0]["bytes"] is not None


def test_a_mixture_is_checked_only_when_that_is_said():
    mixed = mix_datasets({"a": rows(1), "b": rows(1)})
    assert not is_checked(mixed, PREFERENCE_COLUMNS, True)
    mark_checked(mixed, PREFERENCE_COLUMNS, True)
    assert is_checked(mixed, PREFERENCE_COLUMNS, True)
