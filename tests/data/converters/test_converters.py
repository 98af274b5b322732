"""What holds of every converter, over rows that are as published and over rows that are not."""

import json
from copy import deepcopy

import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from support.published_rows import IMAGE, OTHER_ROWS, PLAIN_ROW, ROWS

from trl_mm.data.converters import CONVERTERS, converter_of, find_converter
from trl_mm.data.converters.left_out import LeftOut
from trl_mm.data.images import with_open_images
from trl_mm.data.loading import prepare_preferences
from trl_mm.data.rows import INTERNAL_COLUMNS, check_row, message_text, normalize_row


# `Exception`s that the reader turns into an error with file, row and converter
EXPECTED = (LeftOut, LookupError, TypeError, ValueError, AttributeError)
KNOWN = [(name, row) for name, row in ROWS.items()] + [
    (name, row) for name, rows in OTHER_ROWS.items() for row in rows
]
PAIRS = [(name, row) for name, row in KNOWN if name != "llava_hound"]
PAIRS += [("vlfeedback_best_worst", ROWS["vlfeedback"]), ("omnialign_v", PLAIN_ROW)]


def converted(name, row):
    made = CONVERTERS[name](row)
    return made if isinstance(made, list) else [made]


def images_in(value):
    """How often an image of the rows above is in a value."""
    if isinstance(value, dict):
        return (value == IMAGE) + sum(images_in(item) for item in value.values())
    if isinstance(value, list):
        return sum(images_in(item) for item in value)
    return 0


@pytest.mark.parametrize(("name", "row"), PAIRS)
def test_rows_as_published_can_be_trained_on(name, row):
    before = deepcopy(row)
    rows = converted(name, row)
    assert row == before and rows
    for made in rows:
        assert not {*made} & {*INTERNAL_COLUMNS, "image", "messages", "completion"}
        needs = ("images", "prompt", "chosen", "rejected") if "rejected" in made else ("images", "prompt", "chosen")
        checked = normalize_row(made, "")
        check_row(checked, "", needs)
        assert "<image>" not in json.dumps(made, default=str)
        assert len(made["images"]) == ("conversation" not in row)


@pytest.mark.parametrize(("name", "row"), PAIRS)
def test_columns_of_provenance_have_one_type(name, row):
    types = {"dataset": str, "source": str, "chosen_model": str, "rejected_model": str, "row_id": str}
    types |= {"chosen_rating": float, "rejected_rating": float, "is_safety": bool}
    for made in converted(name, row):
        for column in types.keys() & made.keys():
            assert made[column] is None or type(made[column]) is types[column], column


@pytest.mark.parametrize(("name", "row"), PAIRS)
def test_rows_from_parquet_are_those_from_json(tmp_path, name, row):
    if name == "generic" and "licence" in row:
        row = {**row, "id": 3}
    Dataset.from_list([row]).to_parquet(tmp_path / "rows.parquet")
    (stored,) = Dataset.from_parquet(str(tmp_path / "rows.parquet"), cache_dir=str(tmp_path))
    assert converter_of(stored) == converter_of(row)
    assert converted(name, stored) == converted(name, row)


@pytest.mark.parametrize("name", ["rlhf_v", "rlaif_v", "spa_vl", "sharegpt", "vision_feedback_mix"])
def test_rows_as_published_are_loaded(name):
    (row,) = prepare_preferences([ROWS[name]], converter=CONVERTERS[name])
    (image,) = with_open_images(row)["images"]
    assert image.size == (3, 2) and image.mode == "RGB"  # it is stored with transparency
    assert message_text(row["chosen"][0]) == converted(name, ROWS[name])[0]["chosen"][0]["content"]


VALUES = st.one_of(
    st.sampled_from(
        [None, "", " ", "<image>", "<image>\n<image>", "N/A", 0, 1.5, True, float("nan"), [], {}, [[]], [None]]
    ),
    st.sampled_from(
        [IMAGE, [IMAGE, IMAGE], "a.jpg", b"\x89PNG", {"from": "human", "value": "x"}, {"role": "user"}, "[", "{}"]
    ),
    st.recursive(
        st.text(max_size=5) | st.integers() | st.none(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=6,
    ),
)


@st.composite
def mangled(draw, row):
    """A row with one to three of its values, at any depth, replaced, removed or marked."""
    row = deepcopy(row)
    for _ in range(draw(st.integers(1, 3))):
        place = row
        while True:
            keys = list(place) if isinstance(place, dict) else [*range(len(place))]
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(place[key], dict | list) and draw(st.booleans()):
                place = place[key]
                continue
            if draw(st.integers(0, 3)) == 0:
                del place[key]
            elif isinstance(place[key], str) and draw(st.booleans()):
                place[key] = draw(st.sampled_from(["<image>", "\n<Image>", ""])) + place[key] + "<image>"
            else:
                place[key] = deepcopy(draw(VALUES))
            break
    return row


@given(st.sampled_from([*CONVERTERS]), st.sampled_from([row for _, row in KNOWN]).flatmap(mangled))
def test_any_converter_on_any_row_fails_as_expected_or_gives_rows(name, row):
    check_mangled(name, row)


@given(st.sampled_from(PAIRS).flatmap(lambda known: st.tuples(st.just(known[0]), mangled(known[1]))))
def test_a_converter_on_mangled_rows_of_its_own_fails_as_expected_or_gives_rows(case):
    check_mangled(*case)


def check_mangled(name, row):
    before = deepcopy(row)
    try:
        rows = converted(name, row)
    except EXPECTED:
        return
    finally:
        assert repr(row) == repr(before)
    for made in rows:
        assert isinstance(made["images"], list)
        for column in ("prompt", "chosen", "rejected"):
            for message in made.get(column, []):
                content = message["content"]
                assert "<image>" not in (
                    content if isinstance(content, str) else "".join(p.get("text", "") for p in content)
                )
        seen = ("image", "images") if name != "nlf" else ("image_id", "image")
        stored = next((row[column] for column in seen if row.get(column) is not None), None)
        if name not in ("ha_dpo", "sentinel", "opa_dpo", "mdpo") and stored is not None and images_in(stored):
            assert images_in(made["images"]) >= 1


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("name", ["rlaif_v", "mmpr", "sharegpt", "ms_swift", "generic", "spa_vl", "llava_instruct"])
def test_every_image_of_a_row_is_kept(name, count):
    row = {key: value for key, value in ROWS[name].items() if key not in ("image", "images", "img_path")}
    images = [{"bytes": bytes([n]), "path": None} for n in range(count)]
    for column in ("image", "images"):
        (made,) = converted(name, {**row, column: images})
        assert made["images"] == images


def test_a_name_finds_its_function():
    assert find_converter("povid") is CONVERTERS["povid"] and find_converter(None) is None
