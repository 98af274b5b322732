import io
from unittest import mock

import numpy as np
import PIL.Image
import pytest
from datasets import Dataset, Image, List
from families import FAMILIES, family
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny_image, tiny_processor, tiny_row

from trl_mm.data import lengths
from trl_mm.data.chat import render
from trl_mm.data.images import open_image
from trl_mm.data.lengths import keep_fitting, prompt_lengths


PROCESSOR = tiny_processor()
SIZES = st.tuples(st.integers(5, 130), st.integers(5, 130))


def dataset(rows):
    return Dataset.from_list(rows).cast_column("images", List(Image()))


def rows(words=(1, 3, 2, 30)):
    """Rows whose prompts get longer with the number of words."""
    return [
        {**tiny_row(index), "prompt": [{"role": "user", "content": "Describe the image. " * count}]}
        for index, count in enumerate(words)
    ]


def length_by_the_processor(row, processor=PROCESSOR):
    images = [open_image(image) for image in row["images"]]
    text = render({**row, "images": images}, processor).prompt
    inputs = processor(text=[text], images=[images] if images else None, add_special_tokens=False, return_tensors="pt")
    return inputs["input_ids"].shape[1]


@given(st.lists(st.tuples(st.lists(SIZES, max_size=2), st.integers(1, 9)), min_size=1, max_size=4))
def test_lengths_are_those_of_the_processor(contents):
    made = rows([count for _, count in contents])
    for row, (sizes, _) in zip(made, contents, strict=True):
        row["images"] = [tiny_image(seed, size) for seed, size in enumerate(sizes)]
    # A list of images that is always empty has no type in Arrow
    stored = dataset([*made, tiny_row()])
    assert prompt_lengths(stored, PROCESSOR).tolist() == [length_by_the_processor(row) for row in [*made, tiny_row()]]


@pytest.mark.parametrize("name", FAMILIES)
def test_lengths_are_those_of_the_processor_in_every_family(name):
    processor = family(name)[1]
    made = rows([1, 3, 2, 5])
    for row, sizes in zip(made, [[(40, 30)], [(90, 30), (20, 70)], [], [(30, 60)] * 3], strict=True):
        row["images"] = [tiny_image(seed, size) for seed, size in enumerate(sizes)]
    assert prompt_lengths(dataset(made), processor).tolist() == [length_by_the_processor(r, processor) for r in made]


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_an_image_counts_as_it_is_shown(orientation):
    exif = PIL.Image.Exif()
    exif[PIL.Image.ExifTags.Base.Orientation] = orientation
    buffer = io.BytesIO()
    tiny_image(size=(70, 30)).save(buffer, "JPEG", exif=exif)
    row = {**tiny_row(), "images": [{"bytes": buffer.getvalue(), "path": None}]}
    (length,) = prompt_lengths(dataset([row]), PROCESSOR)
    assert length == length_by_the_processor(row)
    upright = prompt_lengths(dataset([tiny_row(size=(70, 30)), tiny_row(size=(30, 70))]), PROCESSOR)
    assert upright[0] != upright[1] and length == upright[int(orientation in (6, 8))]


def test_no_pixel_is_decoded(monkeypatch):
    buffer = io.BytesIO()
    tiny_image().save(buffer, "JPEG")
    stored = dataset([{**row, "images": [{"bytes": buffer.getvalue(), "path": None}]} for row in rows()])
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("pixels were decoded"))
    assert prompt_lengths(stored, PROCESSOR).dtype == np.int64


@pytest.fixture
def stored():
    return dataset(rows())


@pytest.fixture
def counted(stored):
    return prompt_lengths(stored, PROCESSOR)


def test_rows_that_do_not_fit_are_dropped_and_counted(stored, counted, caplog):
    assert sorted(counted) == [counted[0], counted[2], counted[1], counted[3]]
    limit = int(counted[1])  # a prompt of just this length leaves no room for an answer
    kept = keep_fitting(stored, PROCESSOR, limit, name="eval")
    assert kept["row_id"][:] == ["0", "2"]
    found = f"2 of 4 rows of the eval dataset have a prompt of `max_length` ({limit}) tokens or more"
    assert found in caplog.text and f"the longest {counted[3]} (row 3)" in caplog.text
    assert "Raise `max_length`" in caplog.text


def test_one_token_more_is_enough(stored, counted, caplog):
    assert keep_fitting(stored, PROCESSOR, int(counted.max()) + 1) is stored
    assert not caplog.records


def test_rows_that_do_not_fit_can_be_refused(stored, counted):
    with pytest.raises(ValueError, match="1 of 4 rows of the train dataset.*Image tokens are never cut.*overlong"):
        keep_fitting(stored, PROCESSOR, int(counted.max()), overlong="error")
    assert keep_fitting(stored, PROCESSOR, int(counted.max()) + 1, overlong="error") is stored


def test_a_dataset_of_which_nothing_is_left_is_refused(stored):
    with pytest.raises(ValueError, match="4 of 4 rows.*raise `max_length`"):
        keep_fitting(stored, PROCESSOR, 5)


def test_without_a_limit_nothing_is_counted(stored):
    with mock.patch.object(lengths, "prompt_lengths", side_effect=AssertionError("counted")):
        assert keep_fitting(stored, PROCESSOR, None, overlong="error") is stored
