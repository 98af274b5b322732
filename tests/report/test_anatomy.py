import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from trl_mm.data.loading import prepare_preferences
from trl_mm.report.anatomy import anatomy, compare, repeated, script, table_1
from trl_mm.report.anatomy_page import add_anatomy, add_leaks
from trl_mm.report.image_anatomy import alike, hashes_of_folder, perceptual_hash
from trl_mm.report.languages import language
from trl_mm.report.page import Page


def picture(seed=0, size=(64, 48)):
    noise = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def png(image):
    file = io.BytesIO()
    image.save(file, format="PNG")
    return file.getvalue()


def row(image=0, prompt="What is it?", chosen="A red dog sits here.", rejected="A green dog sits here.", **more):
    return {"images": [png(picture(image))], "prompt": prompt, "chosen": chosen, "rejected": rejected, **more}


def found(*rows, **settings):
    return anatomy(prepare_preferences(list(rows), on_bad_image="keep"), **settings)


def test_figures_of_pairs():
    result = found(
        row(),
        row(),
        row(1, chosen="A cat.", rejected="A cat."),
        row(1, prompt="Why?", chosen="I'm sorry, I cannot say.", rejected="Because it is late in the day, as I said."),
        row(0, chosen="A green dog sits here.", rejected="A red dog sits here."),
    )
    assert len(result) == 5 and result.identical == 1
    assert (len(result.prompts), result.images.distinct, repeated(result.pairs)) == (2, 2, 1)
    assert sorted(result.images.rows_of_images.values()) == [2, 3]
    assert result.chosen_words == [5, 5, 2, 5, 5] and result.rejected_words == [5, 5, 2, 10, 5]
    assert result.longer_chosen == 0.0
    assert result.contradictions == 2, "both dogs, but not the cat against itself"
    assert (result.chosen_refusals, result.rejected_refusals) == (1, 0)
    assert result.in_common[0] == pytest.approx(0.8) and result.in_common[2] == 1.0
    assert result.first_difference == pytest.approx([0.2, 0.2, 0.0, 0.2])
    assert set(result.images.sizes.values()) == {(48, 64)}


def test_languages_of_answers_and_pairs_in_two():
    english = "There is a man on a surfboard, who rides a wave in the ocean."
    german = "Auf dem Bild ist ein Mann zu sehen, der im Meer auf einem Surfbrett steht."
    rows = [row(chosen=english, rejected=german), row(chosen=english), row(chosen="一只狗", rejected=german)]
    result = found(*rows, row(chosen=german, rejected=english))
    assert result.languages == {"en": 2, "too short": 1, "de": 1}
    assert result.two_languages == 2, "a short answer may be in any"
    page = Page("t")
    add_anatomy(page, {"t": result})
    assert "2 (50.0%) pairs have answers in two languages" in str(page._parts)


@pytest.mark.parametrize("text", ["", "12! " * 40, "\ud800" * 60, "\x00" * 80, "a" * 10_000, "🙂" * 50])
def test_any_text_has_a_language_or_is_too_short(text):
    assert isinstance(language(text), str)


def test_length_bias_is_said_with_its_consequence():
    page = Page("t")
    add_anatomy(page, {"long": found(*[row(chosen="A red dog sits here, as ever.")] * 3), "plain": found(row())})
    (text,) = [part for part in page._parts if part["kind"] == "text" and "longer" in str(part["paragraphs"])]
    assert "The chosen answer is the longer one in 100% of the pairs" in text["paragraphs"][0]
    assert "rows repeat another one" in text["paragraphs"][0]
    tables = [part for part in page._parts if part["kind"] == "table"]
    assert tables[1]["headers"] == ["figure", "long", "plain"]
    assert ["rows", "3", "1"] in tables[1]["rows"]


def test_provenance_makes_table_1():
    result = found(*[row(source="coco", chosen_model="human", rejected_model=model) for model in "ab"])
    assert table_1("t", result)[:5] == ["t", 2, 1, 1, "coco"]
    assert table_1("t", result)[5:] == ["human", "a (50%) and 1 more", "not said"]


def test_measures_of_others_are_asked_for_each_pair_and_size():
    result = found(row(), row(1), similarity=lambda left, right: [0.5] * len(left), count_image_tokens=sum)
    assert result.similarity == [0.5, 0.5]
    assert set(result.images.tokens.values()) == {48 + 64} and len(result.images.tokens) == 2


@pytest.mark.parametrize(
    ("text", "expected"), [("A dog.", "latin"), ("一只狗 A", "cjk"), ("Собака", "cyrillic"), ("12!", "none")]
)
def test_writing_systems(text, expected):
    assert script(text) == expected


@given(st.text(max_size=40), st.text(max_size=40))
def test_comparisons_are_shares(left, right):
    in_common, place = compare(left, right)
    assert 0 <= in_common <= 1 and 0 <= place <= 1
    assert compare(left, left)[0] == 1.0 and compare(right, left)[0] == pytest.approx(in_common)


def test_pictures_are_found_in_another_size_and_format(tmp_path):
    picture(3, (320, 240)).save(tmp_path / "large.jpg", quality=70)
    picture(4).save(tmp_path / "other.png")
    (tmp_path / "notes.txt").write_text("no picture")
    hashes = found(row(3), row(5), hash_images=True).images.hashes
    elsewhere = hashes_of_folder(tmp_path)
    assert set(elsewhere) == {"large.jpg", "other.png"}
    assert list(alike(hashes, elsewhere).values()) == ["large.jpg"]
    assert alike({}, elsewhere) == alike(hashes, {}) == {}
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        hashes_of_folder(tmp_path / "none")
    page = Page("t")
    add_leaks(page, {"test": alike(hashes, elsewhere)}, 2)
    (table,) = [part for part in page._parts if part["kind"] == "table"]
    assert table["rows"] == [["test", "1", "50.0%", "large.jpg"]]


@given(st.lists(st.integers(0, 2**64 - 1), max_size=5), st.lists(st.integers(0, 2**64 - 1), max_size=5))
def test_alike_pictures_are_those_within_the_distance(left, right):
    names, others = dict(enumerate(map(int, left))), dict(enumerate(map(int, right)))
    matches = alike({str(k): v for k, v in names.items()}, {str(k): v for k, v in others.items()})
    near = {str(k) for k, v in names.items() if any((v ^ w).bit_count() <= 4 for w in others.values())}
    assert set(matches) == near


def test_unreadable_images_are_counted():
    result = found({**row(), "images": [b"<html>no picture</html>"]}, row(), hash_images=True)
    assert result.images.unreadable == 1 and len(result.images.hashes) == 1
    assert perceptual_hash(picture(0)) in result.images.hashes.values()
