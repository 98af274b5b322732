import pytest
from datasets import Dataset, Features, Image, List, Value
from hypothesis import given
from hypothesis import strategies as st
from support.rows import image_dataset, said
from support.tiny import tiny_row

from trl_mm.data.images import resolve_image
from trl_mm.data.tables import (
    IMAGES,
    check_some_images,
    image_counts,
    mixed_messages,
    raw_rows,
    to_table,
    undecoded,
    unified_features,
)


STORED = st.fixed_dictionaries({"bytes": st.binary(max_size=8) | st.none(), "path": st.text(max_size=8) | st.none()})
PARTS = [{"type": "text", "text": "A dog."}]


@given(
    st.lists(
        st.fixed_dictionaries(
            {"images": st.lists(STORED, max_size=2), "prompt": st.just(said("Yes."))},
            optional={"score": st.floats(allow_nan=False) | st.none(), "name": st.text(max_size=5)},
        ),
        min_size=1,
        max_size=5,
    )
)
def test_rows_come_back_from_their_table(rows):
    """Bytes that are no image too: nothing is decoded. A row without a column of the others has `None` there."""
    dataset = Dataset(to_table(rows))
    assert dataset.features["images"] == IMAGES
    names = {name for row in rows for name in row}
    found = raw_rows(dataset.with_format("arrow")[:], dataset.features)
    assert found == [{name: row.get(name) for name in dataset.column_names} for row in rows]
    assert names == {*dataset.column_names}


def test_rows_are_stored_with_given_features():
    features = Features(images=IMAGES, score=Value("float32"))
    table = to_table([{"images": [], "score": 1, "more": 2}], features)
    assert Dataset(table).features == features


@pytest.mark.parametrize("values", [[1, "one"], [[1], 1], [{"a": 1}, 1], ["\ud83d"], [2**70]])
def test_a_column_that_cannot_be_stored_is_named(values):
    with pytest.raises(ValueError, match="Column `score` cannot be stored: .*Give it one type in all rows"):
        to_table([{"score": value} for value in values])


def schemas(*values):
    return [to_table([{"chosen": value}]).schema for value in values]


def test_a_column_without_values_takes_the_type_that_it_has_elsewhere():
    found = unified_features([to_table([{"a": 1}]).schema, to_table([{"a": None, "b": "x"}]).schema])
    assert found == Features(a=Value("int64"), b=Value("string"))
    assert unified_features([]) == Features()
    assert unified_features([to_table(rows).schema for rows in ([{"images": []}], [{"a": 1.5}])])["images"] == IMAGES


def test_types_that_do_not_go_together_are_refused():
    with pytest.raises(ValueError, match="Rows differ in the type of a column: .*Give it one type"):
        unified_features(schemas("one", 1))


def test_messages_of_texts_and_of_parts_are_found():
    texts, parts, unknown, without = said("A dog."), said(PARTS), said(None), [{"role": "assistant"}]
    assert mixed_messages(schemas(texts, parts)) == ["chosen"]
    for same in (
        (texts, texts),
        (parts, parts),
        (texts, None),
        (unknown, texts),
        (without, texts),
        (["a"], texts),
        (),
    ):
        assert mixed_messages(schemas(*same)) == []
    assert unified_features(schemas(texts, parts)) == unified_features(schemas(parts))


def test_images_are_counted_without_being_read():
    rows = [{"images": [resolve_image({"bytes": b"no image", "path": None})] * count} for count in (2, 0, 1) * 700]
    dataset = Dataset(to_table(rows))
    assert image_counts(dataset).tolist() == [2, 0, 1] * 700
    assert image_counts(dataset.select([1, 2])).tolist() == [0, 1]
    check_some_images(dataset, "train")
    with pytest.raises(ValueError, match="None of the 2 rows of train has an image"):
        check_some_images(dataset.select([1, 4]), "train")


def test_files_in_any_column_stay_as_they_are_stored():
    dataset = image_dataset([tiny_row(), tiny_row(1)]).add_column("n", [1, 2])
    dataset = dataset.add_column("more", [{"inside": [{"bytes": b"no image", "path": None}]}] * 2)
    dataset = dataset.cast_column("more", {"inside": List(Image())})
    stored = undecoded(dataset)
    assert stored[1]["more"] == {"inside": [{"bytes": b"no image", "path": None}]} and stored["n"][:] == [1, 2]
    assert (
        resolve_image(stored[0]["images"][0])["bytes"]
        == dataset.with_format("arrow")[0]["images"][0][0]["bytes"].as_py()
    )
    assert dataset.features["images"] == IMAGES, "the dataset itself stays as it is"
    assert undecoded(stored) is stored
