"""Which converter rows get: by name, by their columns, or after their columns are renamed."""

import json
import pickle

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from trl_mm.data.converter_choice import AUTO, RenamedColumns, choose_converter, first_rows
from trl_mm.data.converters import CONVERTERS
from trl_mm.data.converters.llava_instruct import llava_instruct
from trl_mm.data.loading import load_preferences, prepare_preferences
from trl_mm.data.streaming import stream_preferences


SFT = ("images", "prompt", "chosen")
SAID = [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "A dog."}]
TALK = {"id": "a", "images": [], "conversations": SAID}
QUESTION = {"pictures": [], "question": "What?", "good": "A dog.", "bad": "A cat."}
COLUMNS = {"images": "pictures", "prompt": "question", "chosen": "good", "rejected": "bad"}
PAIR = {"images": [], "prompt": "What?", "chosen": "A dog.", "rejected": "A cat."}


SPEAKING = {"conversations": [{"from": "human", "value": "What?"}], "chosen": "A.", "rejected": "B."}


def nowhere(index):
    return "", index


def write(folder, rows, suffix=".jsonl"):
    file = folder / f"rows{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), file)
    else:
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def choose(rows, converter=AUTO, columns=None, needs=("images", "prompt", "chosen", "rejected")):
    return choose_converter(converter, columns, rows, nowhere, needs)


def said(row):
    return [row[name][-1]["content"] for name in ("prompt", "chosen", "rejected") if row.get(name)]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize("converter", [AUTO, "llava_instruct", llava_instruct])
def test_a_name_or_the_columns_stand_for_a_converter(tmp_path, suffix, converter):
    file = write(tmp_path, [{**TALK, "images": None}], suffix)
    for rows in (
        load_preferences(file, converter=converter, needs=SFT),
        load_preferences(file, converter=converter, needs=SFT, streaming=True),
        [item.row for item in stream_preferences(file, converter=converter, needs=SFT)],
    ):
        assert [said(row) for row in rows] == [["What?", "A dog."]]


def test_later_rows_may_show_more_of_their_columns():
    generic = {"question": "What?", "good": "A.", "bad": "B.", "pictures": []}
    assert choose([generic, SPEAKING]) is CONVERTERS["sharegpt"]
    assert choose([generic, PAIR]) is choose([generic]) is CONVERTERS["generic"]


def test_rows_in_the_format_need_none():
    assert choose([PAIR]) is None
    assert choose([{"image": None, **{name: PAIR[name] for name in ("prompt", "chosen", "rejected")}}]) is None
    messages = {"prompt": [{"role": "user", "content": "What?"}], "chosen": [{"role": "assistant", "content": "A."}]}
    assert choose([{"images": [], **messages, "conversations": SAID}]) is None
    assert choose([]) is None and choose([PAIR], None) is None


def test_the_first_row_may_be_broken():
    assert choose([{"id": "a"}, 3, {"id": "b", "conversations": []}, TALK], needs=SFT) is llava_instruct


def test_a_meta_file_of_one_line_is_named(tmp_path):
    file = write(tmp_path, [{"m3cot": {"root": "images", "annotation": "m3cot.jsonl"}}])
    with pytest.raises(ValueError, match="rows.jsonl is a meta file, which names files of rows"):
        load_preferences(file, converter=AUTO)


def test_an_unknown_layout_shows_its_columns_and_the_nearest_converter(tmp_path):
    file = write(tmp_path, [{"id": "a", "x1": "What?", "x2": "A dog."}])
    with pytest.raises(ValueError, match=r"rows.jsonl, row 0: the columns are of no known layout: id, x1, x2\. ") as e:
        load_preferences(file, converter=AUTO)
    assert "The nearest converter is `" in str(e.value) and "--columns" in str(e.value)


def test_columns_are_renamed_before_everything_else(tmp_path):
    for suffix in (".jsonl", ".parquet"):
        file = write(tmp_path, [QUESTION, {**QUESTION, "pictures": None}], suffix)
        dataset = load_preferences(file, columns=COLUMNS)
        assert said(dataset[0]) == ["What?", "A dog.", "A cat."] and "question" not in dataset.column_names
        assert [said(item.row) for item in stream_preferences(file, columns=COLUMNS)] == [said(dataset[0])] * 2
    renamed = prepare_preferences(
        [{"images": [], "talk": SAID}], columns={"conversations": "talk"}, converter=AUTO, needs=SFT
    )
    assert said(renamed[0]) == ["What?", "A dog."]


def test_columns_may_change_places():
    swapped = prepare_preferences([PAIR], columns={"chosen": "rejected", "rejected": "chosen"})
    assert said(swapped[0]) == ["What?", "A cat.", "A dog."]


def test_a_row_need_not_have_all_renamed_columns():
    rows = [QUESTION, {**QUESTION, "image": None}]
    del rows[1]["pictures"]
    assert len(prepare_preferences(rows, columns=COLUMNS)) == 2


@pytest.mark.parametrize(
    ("columns", "error"),
    [
        (
            {"prompt": "questoin"},
            "takes `prompt` from `questoin`, .*Did you mean `question`.* Columns: pict",
        ),
        ({"prompt": "\x1b[2J"}, r"from `\\x1b\[2J`, and there is no such column. Columns: "),
        ({"prompt": 3}, "`columns` must map new names to those that columns have, got .*'prompt': 'question'"),
        (["prompt"], "`columns` must map new names"),
    ],
)
def test_wrong_columns_are_named(columns, error):
    with pytest.raises(ValueError, match=error):
        prepare_preferences([QUESTION], columns=columns)


def test_an_unknown_converter_is_refused_before_rows_are_read():
    with pytest.raises(ValueError, match="`converter` must be one of .*llava_instruct.*got 'llava'"):
        prepare_preferences([PAIR], converter="llava")


def test_renaming_can_be_pickled():
    rename = RenamedColumns({"prompt": "question"}, llava_instruct)
    assert pickle.loads(pickle.dumps(rename)) == rename


def test_only_first_rows_are_read():
    read = []
    rows = (read.append(index) or PAIR for index in range(1000))
    assert len(first_rows(rows)) == len(read) < 100
    assert first_rows(Dataset.from_list([PAIR]).select([])) == []
