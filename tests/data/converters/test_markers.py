import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trl_mm.data.converters.markers import marked_prompt, without_markers
from trl_mm.data.rows import check_row, normalize_row


IMAGE = {"type": "image"}


def text(content):
    return {"type": "text", "text": content}


def user(content):
    return {"role": "user", "content": content}


@pytest.mark.parametrize(
    "marked", ["<image>\nWhat?", "What?\n<image>", "<image>What?", "What? <Image> ", "< image >What?"]
)
def test_at_the_edge_of_the_first_question_a_marker_is_removed(marked):
    assert marked_prompt([user(marked)], 1) == [user("What?")]


@pytest.mark.parametrize(
    "marker", ["<ImageHere>", "<image-placeholder>", "<image_placeholder>", "<|image|>", "<image token>"]
)
def test_markers_have_several_spellings(marker):
    assert marked_prompt([user(f"{marker}\nWhat?")], 1) == [user("What?")]


def test_elsewhere_it_becomes_a_part():
    assert marked_prompt([user("Here <image> it is.")], 1) == [user([text("Here"), IMAGE, text("it is.")])]
    first, answer, second = marked_prompt(
        [user("Hi"), {"role": "assistant", "content": "Hi"}, user("<image>This?")], 1
    )
    assert second == user([IMAGE, text("This?")]) and first == user("Hi") and answer["content"] == "Hi"


def test_several_images():
    assert marked_prompt([user("<image><image>\nWhich?")], 2) == [user("Which?")]
    assert marked_prompt([user("<image> or <image>?")], 2) == [user([IMAGE, text("or"), IMAGE, text("?")])]


def test_numbered_markers_count_where_each_image_has_one():
    assert marked_prompt([user("<image_1>\n<image 2>\nWhich?")], 2) == [user("Which?")]
    found = marked_prompt([user("<image_1> or <image 2>?")], 2)
    assert found == [user([IMAGE, text("or"), IMAGE, text("?")])]
    for other in ("Which of <image 1> and <image 1>?", "Is it <image 2>?", "<image>Is <image 1> red?"):
        assert "<image" in json.dumps(marked_prompt([user(other)], 2))


def test_where_their_number_differs_the_row_is_refused_with_both_numbers():
    row = {
        "images": ["a.jpg"],
        "prompt": marked_prompt([user("<image>Who? <image>")], 1),
        "chosen": "x",
        "rejected": "y",
    }
    with pytest.raises(ValueError, match=r"placeholders in `prompt` \(2\) differs from the number of images \(1\)"):
        check_row(normalize_row(row, ""), "")


def test_only_the_user_shows_images():
    (system, answer) = marked_prompt(
        [{"role": "system", "content": "See <image>."}, {"role": "assistant", "content": "<image>"}], 0
    )
    assert system["content"] == "See ." and answer["content"] == ""


def test_a_marker_that_is_left_behind_goes_too():
    assert without_markers("<ima<image>ge> a") == "<ima ge> a"
    assert without_markers("<<image>image> a") == "a"
    assert without_markers("a\n\nb ") == "a\n\nb "
    with pytest.raises(ValueError, match="stand in one another"):
        without_markers("<" * 100_000 + "image>" * 100_000)


@given(st.lists(st.sampled_from(["<image>", "What", " ", "\n", "is", "<Image>"]), max_size=8), st.integers(0, 3))
def test_texts_keep_their_words_and_places(pieces, num_images):
    (message,) = marked_prompt([user("".join(pieces))], num_images)
    content = message["content"]
    parts = [text(content)] if isinstance(content, str) else content
    said = " ".join(part["text"] for part in parts if part["type"] == "text")
    assert "<image>" not in said.lower()
    words = "".join(pieces).replace("<image>", " ").replace("<Image>", " ").split()
    assert said.split() == words
    marks = sum(piece.lower() == "<image>" for piece in pieces)
    assert sum(part == IMAGE for part in parts) in (marks, 0)
    if marks != num_images:
        assert sum(part == IMAGE for part in parts) == marks
