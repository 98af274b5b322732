import io

import numpy as np
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from trl_mm.data.loading import prepare_preferences
from trl_mm.report.pair_page import MAX_CHARACTERS, pair_page, spread


def png(color="red"):
    file = io.BytesIO()
    Image.new("RGB", (300, 200), color).save(file, format="PNG")
    return file.getvalue()


def rows(count=3, **columns):
    """Preference rows; a column has one value per row."""
    return [
        {
            "images": [png()],
            "prompt": f"What is in image {index}?",
            "chosen": "A red dog sits.",
            "rejected": "A green dog sits.",
            **{name: values[index] for name, values in columns.items()},
        }
        for index in range(count)
    ]


def parts(content, kind, **settings):
    page, _ = pair_page("t", prepare_preferences(content, on_bad_image="keep"), **settings)
    return [part for part in page._parts if part["kind"] == kind]


def cards(content, **settings):
    return parts(content, "browser", **settings)[0]["cards"]


def test_a_row_becomes_a_card():
    (card,) = cards(rows(1))
    assert card["title"] == "words in common 0.800 · row 0"
    assert card["prompt"] == "What is in image 0?"
    assert card["answers"] == [
        ("chosen", [("A ", ""), ("red", "good"), (" dog sits.", "")]),
        ("rejected", [("A ", ""), ("green", "bad"), (" dog sits.", "")]),
    ]
    assert (card["pictures"][0]["width"], card["pictures"][0]["height"]) == (192, 128)


def test_what_is_known_of_a_pair():
    columns = {"bdhs_attempts": [1, 5, None], "bdhs_similarity": [0.51, 1, None], "bdhs_guided": [True, False, None]}
    content = rows(row_id=["a", "b", "c"], **columns)
    content[1]["rejected"] = content[1]["chosen"]
    (browser,) = parts(content, "browser")
    assert [card["title"] for card in browser["cards"]] == [
        "attempt 1 · similarity 0.510 · row a",
        "attempt 5 · similarity 1.000 · identical · unguided · row b",
        "words in common 0.800 · row c",
    ]
    assert browser["filters"] == [("attempt", "choice", [1, 5]), ("similarity", "range", [0.51, 1.0])]
    assert [card["filtered"] for card in browser["cards"]] == [[1, 0.51], [5, 1.0], [None, None]]


def test_other_datasets_are_filtered_by_words_in_common():
    (browser,) = parts(rows(), "browser")
    assert browser["filters"] == [("words in common", "range", [0.8])]
    assert not parts(rows(), "bars")
    assert len(parts(rows(), "table")) == 2


def test_summary():
    content = rows(
        4,
        bdhs_attempts=[1, 1, 2, 5],
        bdhs_similarity=[0.12, 0.13, 0.55, 0.9],
        bdhs_guided=[True, True, True, False],
        bdhs_place=["sky", "sky", None, "sea"],
        bdhs_swapped=[True, None, False, True],
        bdhs_noise=[1.0, float("nan"), 3.0, 5.0],
        bdhs_lists=[[1], [2], [3], [4]],
    )
    content[3]["rejected"] = content[3]["chosen"] = "One two three."
    overview, lengths, texts, attempts = (part["rows"] for part in parts(content, "table"))
    assert overview == [
        ["all", "4", "100.0%"],
        ["rejected identical to chosen", "1", "25.0%"],
        ["unguided", "1", "25.0%"],
        ["bdhs_swapped", "2", "50.0%"],
    ]
    assert lengths == [
        ["words of chosen", "3", "4", "4"],
        ["words of rejected", "3", "4", "4"],
        ["bdhs_similarity", "0.12", "0.55", "0.9"],
        ["bdhs_noise", "1", "3", "5"],
    ]
    assert texts == [["bdhs_place", "sky", "2"], ["bdhs_place", "sea", "1"]]
    assert attempts == [
        ["1", "4", "2", "50.0%", "50.0%"],
        ["2", "2", "1", "50.0%", "25.0%"],
        ["5", "1", "1", "100.0%", "25.0%"],
    ]
    (similarities,) = parts(content, "bars")
    assert [(name, count) for name, count, *_ in similarities["bars"] if count] == [
        ("0.1 – 0.2", 2),
        ("0.5 – 0.6", 1),
        ("0.8 – 0.9", 1),
    ]


def test_columns_of_other_types_are_left_alone():
    content = rows(2, bdhs_attempts=["one", "two"], bdhs_similarity=[[0.5], [0.6]])
    (browser,) = parts(content, "browser")
    assert [name for name, _, _ in browser["filters"]] == ["words in common"]


def test_rows_are_spread_and_figures_are_of_all():
    content = rows(10)
    assert [card["title"][-1] for card in cards(content, max_rows=4)] == ["0", "2", "5", "7"]
    assert parts(content, "table", max_rows=4)[0]["rows"][0][1] == "10"


def test_bad_images_are_said_and_counted(tmp_path):
    content = rows(5)
    content[1]["images"] = [tmp_path / "gone.png"]
    content[2]["images"] = [b"no image", png(), png()[:100]]
    content[3]["images"] = []
    content[4]["images"] = [png()] * 6
    page, unreadable = pair_page("t", prepare_preferences(content, on_bad_image="keep"))
    assert unreadable == 3
    assert page.subtitle == "5 rows, 5 of them below. Images that cannot be read: 3 in 2 rows"
    pictures = [[p.get("missing", "image") for p in card["pictures"]] for card in page._parts[-1]["cards"]]
    assert pictures[0] == ["image"]
    assert pictures[1] == [f"No such file: {tmp_path / 'gone.png'}"]
    assert "no image in one of the formats" in pictures[2][0]
    assert pictures[2][1] == "image"
    assert "cannot be decoded" in pictures[2][2]
    assert pictures[3] == ["no image"]
    assert pictures[4] == ["image"] * 4 + ["and 2 more images"]


def test_bad_bytes_in_a_stored_dataset():
    stored = Dataset.from_list(rows(2)).to_list()
    stored[1]["images"] = [{"bytes": b"no image", "path": None}]
    dataset = prepare_preferences(stored, on_bad_image="keep")
    assert pair_page("t", dataset)[1] == 1


def test_a_row_takes_at_most_10_kb_for_its_images():
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8))
    content = rows(2)
    content[0]["images"], content[1]["images"] = [noise], [noise] * 4
    sizes = [sum(len(picture["uri"]) for picture in card["pictures"]) for card in cards(content)]
    assert max(sizes) < 10_000


def test_long_texts_are_clipped():
    content = rows(1)
    content[0]["chosen"] = "word " * 3000
    ((_, segments),) = cards(content)[0]["answers"][:1]
    text = "".join(segment for segment, _ in segments)
    assert text.endswith("… (9,999 more characters)")
    assert len(text) < MAX_CHARACTERS + 50


@given(st.integers(1, 300), st.integers(1, 300))
def test_spread(num_rows, most):
    indices = spread(num_rows, most)
    assert len(indices) == min(num_rows, most)
    assert indices[0] == 0 and indices[-1] < num_rows
    gaps = {b - a for a, b in zip(indices, [*indices[1:], num_rows], strict=True)}
    assert max(gaps) - min(gaps) <= 1 and min(gaps) > 0
