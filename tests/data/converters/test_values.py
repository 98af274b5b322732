import pytest

from trl_mm.data.converters.values import conversation, file_name, images_of, parsed, rating_of, records, text_of


def test_text_of():
    assert text_of(None) == "" == text_of({"value": None})
    assert text_of("a") == text_of({"value": "a"}) == text_of({"content": "a", "value": None}) == "a"
    for value in (1, ["a"], {"value": 1}, {"text": "a"}, {}):
        with pytest.raises(TypeError, match="a text is a"):
            text_of(value)


def test_records_of_columns_inside_one_another():
    rows = [{"a": {"b": 1, "c": "x"}, "d": None}, {"a": {"b": 2, "c": "y"}, "d": 3}]
    assert records({"a": {"b": [1, 2], "c": ["x", "y"]}, "d": [None, 3]}) == rows == records(rows)
    with pytest.raises(ValueError, match="zip"):
        records({"a": [1], "b": [1, 2]})
    with pytest.raises(TypeError, match="a list is a str"):
        records("ab")


def test_columns_in_one_another_without_end():
    value = {"a": [1]}
    for _ in range(900):
        value = {"a": value}
    with pytest.raises(ValueError, match="nested too deeply"):
        records(value)


def test_json_that_is_nested_without_end_is_bad_input():
    with pytest.raises(ValueError, match="nested too deeply"):
        parsed("[" * 200_000)


@pytest.mark.parametrize(
    "turns",
    [
        [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "A dog."}],
        [[{"from": "human", "value": "What?"}, {"from": "gpt", "value": "A dog."}]],
        {"from": ["human", "gpt"], "value": ["What?", "A dog."]},
        '[{"from": "user", "value": "What?"}, {"from": "assistant", "value": "A dog."}]',
        [{"role": "user", "content": [{"type": "text", "text": "What?"}]}, {"role": "assistant", "content": "A dog."}],
        [{"role": "user", "content": "What?", "from": None}, {"role": "assistant", "content": "A dog.", "from": None}],
    ],
)
def test_conversations_are_written_in_several_ways(turns):
    messages = [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "A dog."}]
    assert conversation(turns) == (messages, [])


def test_images_in_a_conversation_keep_their_place():
    parts = [
        {"type": "text", "text": "Is"},
        {"type": "image_url", "image_url": {"url": "a.jpg"}},
        {"type": "image", "image": "b.jpg"},
        {"type": "image"},
    ]
    (message,), images = conversation([{"role": "user", "content": parts}])
    assert message["content"] == "Is<image><image><image>" and images == [{"url": "a.jpg"}, "b.jpg"]


def test_two_conversations_in_one_row_are_refused():
    turn = {"from": "human", "value": "What?"}
    with pytest.raises(ValueError, match="too many values"):
        conversation([[turn], [turn]])


def test_images_of():
    stored = {"bytes": b"x", "path": None}
    assert images_of({"image": stored, "images": None}) == [stored] == images_of({"images": [stored]})
    assert images_of({"images": {"bytes": [b"x"], "path": [None]}}) == [stored]
    assert images_of({"image": None}) == [] == images_of({})
    assert images_of({"image": "a", "img_path": "b"}, "img_path", "image") == ["b"]


def test_file_name():
    assert file_name("./data/coco/a.jpg") == file_name("data\\coco\\a.jpg") == file_name("a.jpg") == "a.jpg"
    assert file_name({"path": "x/a.jpg"}) == {"path": "x/a.jpg"}


def test_ratings():
    assert [rating_of(value) for value in ("4", " 3.5 ", 2, "N/A", None, "nan", float("inf"), [], "4/5")] == [
        *(4.0, 3.5, 2.0),
        *[None] * 6,
    ]
