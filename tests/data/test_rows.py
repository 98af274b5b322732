import subprocess
import sys

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st
from trl import prepare_multimodal_messages

from trl_mm.data.rows import as_parts, check_row, has_parts, message_text, normalize_row


def user(content):
    return [{"role": "user", "content": content}]


def assistant(content):
    return [{"role": "assistant", "content": content}]


def row(**columns):
    base = {"images": ["a.png"], "prompt": user("What?"), "chosen": assistant("A."), "rejected": assistant("B.")}
    return {**base, **columns}


IMAGE = {"type": "image"}


def text(value):
    return {"type": "text", "text": value}


def test_import_needs_no_torch():
    code = "import sys, trl_mm.data.rows; sys.exit(bool({'torch', 'datasets', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_strings_become_messages_and_extra_columns_stay():
    source = {"image": "a.png", "prompt": "What?", "chosen": "A.", "rejected": "B.", "source": "x", "score": None}
    assert normalize_row(source, "here") == row(source="x", score=None)
    assert source["image"] == "a.png", "the row that was passed in is left alone"


@pytest.mark.parametrize(
    ("columns", "images"),
    [
        ({"images": None}, []),
        ({"image": None}, []),
        ({"image": "a"}, ["a"]),
        ({"images": "a"}, ["a"]),
        ({"images": ("a", "b")}, ["a", "b"]),
        ({"images": {"bytes": b"x", "path": None}}, [{"bytes": b"x", "path": None}]),
        ({"images": None, "image": "a"}, ["a"]),
        ({"images": ["a"], "image": None}, ["a"]),
    ],
)
def test_images_become_a_list(columns, images):
    assert normalize_row(columns, "here") == {"images": images}


def test_image_and_images_together_are_refused():
    with pytest.raises(ValueError, match=r"pairs.jsonl, row 3: .*both `image` and `images`.*Remove one"):
        normalize_row({"image": "a", "images": ["b"]}, "pairs.jsonl, row 3")


@pytest.mark.parametrize("value", ["text", 3, None, ["a"]])
def test_what_is_no_row_is_refused(value):
    with pytest.raises(ValueError, match="here: a row must be an object"):
        normalize_row(value, "here")


@pytest.mark.parametrize(
    ("content", "images", "expected"),
    [
        ("<image>\nWhat?", ["a"], "What?"),
        ("What?\n<image>", ["a"], "What?"),
        ("<image><image> What?", ["a", "b"], "What?"),
        ("Is <image> like <image>?", ["a", "b"], [text("Is"), IMAGE, text("like"), IMAGE, text("?")]),
        # The numbers differ: nothing is removed, so that `check_row` can say so.
        ("<image>\nWhat?", [], [IMAGE, text("What?")]),
        ([text("<image>\nWhat?")], ["a"], [IMAGE, text("What?")]),
        ([text("What?")], ["a"], [IMAGE, text("What?")]),
        ([IMAGE, text("What?")], ["a"], [IMAGE, text("What?")]),
        # Arrow fills in the keys that other parts have. TRL would take `"image": None` for an image.
        ([{"type": "image", "text": None, "image": None}, text("What?")], ["a"], [IMAGE, text("What?")]),
    ],
)
def test_image_markers_become_what_trl_understands(content, images, expected):
    assert normalize_row({"images": images, "prompt": user(content)}, "here")["prompt"] == user(expected)


def test_marker_in_a_later_turn_stays_in_its_place():
    prompt = [*user("Hello."), *assistant("Hello."), *user("<image> What?")]
    result = normalize_row({"images": ["a"], "prompt": prompt}, "here")["prompt"]
    assert [message["content"] for message in result] == [[text("Hello.")], [text("Hello.")], [IMAGE, text("What?")]]


def test_images_inside_the_prompt_move_to_the_column_in_order():
    parts = [{"type": "image", "image": "a"}, text("and"), IMAGE, {"type": "image", "image": "c"}]
    result = normalize_row({"images": ["b"], "prompt": user(parts)}, "here")
    assert result == {"images": ["a", "b", "c"], "prompt": user([IMAGE, text("and"), IMAGE, IMAGE])}
    assert parts[0] == {"type": "image", "image": "a"}


def test_missing_column_lists_found_and_needed_and_suggests_the_nearest():
    broken = row()
    broken["rejected_response"] = broken.pop("rejected")
    with pytest.raises(ValueError) as error:
        check_row(broken, "pairs.jsonl, row 7")
    for part in (
        "pairs.jsonl, row 7: column `rejected` is missing",
        "Found: images, prompt, chosen, rejected_response",
        "Needed: images, prompt, chosen, rejected",
        "Is `rejected_response` meant?",
        "converter",
    ):
        assert part in str(error.value)


def test_missing_column_without_a_near_name_gets_no_suggestion():
    with pytest.raises(ValueError, match="column `images` is missing. Found: zzz. Needed: images. Rename"):
        check_row({"zzz": 1}, "here", needs=["images"])


def test_rows_without_images_are_told_how_to_say_so():
    with pytest.raises(ValueError, match="column `images` is missing.*rows without images, give each an empty list"):
        check_row({"prompt": user("What?")}, "here", needs=("images", "prompt"))


def test_needs_says_which_columns_are_looked_at():
    check_row({"images": [], "prompt": user("What?")}, "here", needs=("images", "prompt"))
    check_row({"images": [], "prompt": user("What?"), "rejected": None}, "here", needs=("images", "prompt"))
    with pytest.raises(ValueError, match="column `chosen` is missing"):
        check_row({"images": [], "prompt": user("What?")}, "here", needs=("images", "prompt", "chosen"))


@pytest.mark.parametrize("name", ["chosen", "rejected"])
@pytest.mark.parametrize("value", ["", " \n", [], None, assistant(""), assistant([]), assistant(None)])
def test_empty_answer_is_refused(name, value):
    with pytest.raises(ValueError, match=rf"here: `{name}` (is empty|must be .* it is)"):
        check_row(normalize_row(row(**{name: value}), "here"), "here")


def test_answer_of_tool_calls_is_not_empty():
    calls = [{"role": "assistant", "content": None, "tool_calls": [{"name": "look"}]}]
    check_row(normalize_row(row(chosen=calls), "here"), "here")


def test_prompt_may_be_an_image_alone_but_not_nothing():
    check_row(row(prompt=user("")), "here")
    with pytest.raises(ValueError, match="`prompt` is empty"):
        check_row(row(prompt=user(""), images=[]), "here")


@pytest.mark.parametrize(
    ("content", "images", "count"),
    [
        ("<image><image> What?", ["a"], 2),
        ("<image> What?", [], 1),
        ("Is <image> a cat?", ["a", "b"], 1),
        ([IMAGE, IMAGE, text("What?")], ["a"], 2),
        ([IMAGE, text("<image> What?")], ["a"], 2),
    ],
)
def test_number_of_placeholders_must_be_that_of_the_images(content, images, count):
    broken = row(prompt=user(content), images=images)
    for candidate in (broken, normalize_row(broken, "here")):
        with pytest.raises(
            ValueError, match=rf"here: .*placeholders in `prompt` \({count}\).*\({len(images)}\). Give"
        ):
            check_row(candidate, "here")


def test_no_placeholder_is_fine_because_trl_puts_the_images_first():
    check_row(row(images=["a", "b"]), "here")


@pytest.mark.parametrize("answer", ["It is <image>.", [IMAGE, text("It is.")]])
def test_image_in_an_answer_is_refused(answer):
    with pytest.raises(ValueError, match="`rejected` holds an image or <image>.*remove it from the answer"):
        check_row(normalize_row(row(rejected=assistant(answer)), "here"), "here")


@pytest.mark.parametrize("name", ["chosen", "rejected"])
@pytest.mark.parametrize("messages", [user("What?"), [*assistant("A."), *user("What?")]])
def test_answers_end_with_a_message_of_the_assistant(name, messages):
    with pytest.raises(ValueError, match=f"here: `{name}` ends with a message of the role user.*belong in `prompt`"):
        check_row(normalize_row(row(**{name: messages}), "here"), "here")


def test_the_last_turn_of_an_answer_is_not_empty():
    check_row(row(chosen=[*assistant("A."), *user("Why?"), *assistant("So.")]), "here")
    with pytest.raises(ValueError, match="`chosen` is empty"):
        check_row(row(chosen=[*assistant("A."), *user("Why?"), *assistant("")]), "here")


@pytest.mark.parametrize(
    "messages",
    [
        3,
        ["What?"],
        [{"content": "What?"}],
        [{"role": "human", "content": "What?"}],
        [{"from": "human", "value": "What?"}],
        user(None),
        user(3),
        user(["What?"]),
        user([{"text": "What?"}]),
        user([{"type": "video_url", "video_url": "x"}]),
        assistant("What?"),
    ],
)
def test_what_is_no_prompt_is_refused(messages):
    with pytest.raises(
        ValueError, match="here: `prompt` (must be a string or a list of messages, but|has no message)"
    ):
        check_row(normalize_row(row(prompt=messages), "here"), "here")


@pytest.mark.parametrize(
    ("content", "expected"),
    [("A cat.", "A cat."), ([IMAGE, text("A "), text("cat.")], "A cat."), (None, ""), ([{"type": "text"}], "")],
)
def test_message_text(content, expected):
    assert message_text({"role": "assistant", "content": content}) == expected


def test_as_parts_puts_images_where_trl_does():
    result = as_parts(row(images=["a", "b"], prompt=[{"role": "system", "content": "Be brief."}, *user("What?")]))
    assert result["prompt"][0]["content"] == [text("Be brief.")]
    assert result["prompt"][1]["content"] == [IMAGE, IMAGE, text("What?")]
    assert result["chosen"] == assistant([text("A.")])
    assert has_parts(result) and not has_parts(row())
    assert as_parts(result) == result


contents = st.one_of(
    st.lists(st.sampled_from(["<image>", "What", " ", "\n", "?"]), max_size=6).map("".join),
    st.lists(
        st.sampled_from([IMAGE, text("What?"), text("<image> and"), {"type": "image", "image": "x"}]), max_size=4
    ),
)
messages = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant"]), "content": contents}),
    min_size=1,
    max_size=4,
)


@given(prompt=messages, num_images=st.integers(0, 4))
def test_trl_takes_every_row_that_passes(prompt, num_images):
    images = [f"{index}.png" for index in range(num_images)]
    result = normalize_row({"images": images, "prompt": prompt}, "here")
    assert normalize_row(result, "here") == result
    try:
        check_row(result, "here", needs=("images", "prompt"))
    except ValueError:
        reject()
    for candidate in (result["prompt"], as_parts(result)["prompt"]):
        prepared = prepare_multimodal_messages(candidate, result["images"])
        parts = [part for message in prepared for part in message["content"]]
        assert [part["image"] for part in parts if part["type"] == "image"] == result["images"]
        assert not any("<image>" in part.get("text", "") for part in parts)
