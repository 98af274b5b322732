import pytest
from support.published_rows import IMAGE, OTHER_ROWS, PLAIN_ROW, ROWS, messages, turns

from trl_mm.data.converters import CONVERTERS, converter_of, nearest_converter
from trl_mm.data.converters.detection import LAYOUTS


KNOWN = [(name, row) for name, row in ROWS.items()] + [
    (name, row) for name, rows in OTHER_ROWS.items() for row in rows
]


@pytest.mark.parametrize(("name", "row"), KNOWN)
def test_every_layout_is_recognised_as_itself(name, row):
    assert converter_of(row) == name
    assert converter_of({**row, "unrelated": None}) == name
    assert converter_of(dict(reversed(row.items()))) == name


def test_every_converter_is_recognised_but_for_two():
    # the first is another choice for rows of `vlfeedback`, the second for rows that need none
    assert {*CONVERTERS} - {name for name, _ in KNOWN} == {"vlfeedback_best_worst", "omnialign_v"}
    assert {*LAYOUTS} | {"generic"} <= {*CONVERTERS}


@pytest.mark.parametrize(
    "row",
    [
        {
            "images": [IMAGE],
            "prompt": messages("What?"),
            "chosen": messages("", "A.")[1:],
            "rejected": messages("", "B.")[1:],
        },
        {"images": [IMAGE], "messages": messages("What?", "A.")},
        {"chosen": messages("What?", "A."), "rejected": messages("What?", "B.")},
        {"images": [], "prompt": "What?"},
        {"images": [], "prompt": "What?", "chosen": "A.", "rejected": "B."},
        PLAIN_ROW,
        {**PLAIN_ROW, "image": None},
        {"text": "Anything.", "image": IMAGE},
        {"question": "What?", "answer": "A."},
        {"conversations": "What?"},
        {"completions": [], "prompt": "What?"},
        {"completions": 3, "prompt": "What?"},
        {},
        [],
        None,
    ],
)
def test_rows_of_the_format_and_others_have_none(row):
    assert converter_of(row) is None


def test_texts_without_a_column_of_images_are_generic():
    assert converter_of({"prompt": "What?", "chosen": "A.", "rejected": "B."}) == "generic"


def test_messages_without_images_are_of_another_layout():
    assert converter_of({"messages": messages("What?", "A.")}) == "ms_swift"
    assert converter_of({"messages": messages("What?", "A."), "images": []}) is None
    assert converter_of({"messages": ["What?"]}) is None


def test_a_context_may_be_none():
    assert converter_of({**ROWS["sentinel"], "context": None}) == "sentinel"
    assert converter_of({name: value for name, value in ROWS["sentinel"].items() if name != "context"}) == "generic"


def test_columns_that_are_null_do_not_count():
    pair = {**ROWS["llava_instruct"], "rejected_conversations": None, "chosen": None, "rejected": None}
    assert converter_of(pair) == "llava_instruct"
    assert converter_of({**pair, "rejected_conversations": turns("What?", "A.")}) == "povid"


@pytest.mark.parametrize(("name", "row"), KNOWN)
def test_the_nearest_converter_still_knows_a_row_without_one_column(name, row):
    if name in LAYOUTS:
        assert nearest_converter(row) in LAYOUTS
    for column in row:
        rest = [other for other in row if other != column]
        assert nearest_converter(rest) in CONVERTERS


def test_nearest():
    assert nearest_converter(["y_win", "y_lose", "image_path", "prompt"]) == "sentinel"
    assert nearest_converter(["conversations", "rejected_conversation"]) in ("llava_instruct", "povid")
    assert nearest_converter(["models_output", "image"]) == "mm_rlhf"
    assert nearest_converter(["a", "b"]) == nearest_converter([]) == "generic"
