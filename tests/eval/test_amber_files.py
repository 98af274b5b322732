import json

import pytest
from support.published import published

from trl_mm.eval.amber_files import read_amber, read_responses


ANNOTATIONS = [
    {"id": 1, "type": "generative", "truth": ["sky"], "hallu": ["dog"]},
    {"id": 2, "type": "discriminative-hallucination", "truth": "no"},
    {"id": 3, "type": "discriminative-attribute-state", "truth": "yes"},
    {"id": 4, "type": "discriminative-attribute-action", "truth": "no"},
    {"id": 5, "type": "relation", "truth": "no"},
]
QUERIES = [{"id": entry["id"], "image": f"AMBER_{entry['id'] % 2}.jpg", "query": "What?"} for entry in ANNOTATIONS]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "annotations.json").write_text(json.dumps(ANNOTATIONS))
    (tmp_path / "relation.json").write_text('{"sky": ["cloud"], "dog": []}')
    (tmp_path / "safe_words.txt").write_text("light\nrange")
    return tmp_path


def test_the_folder_is_read(folder):
    data = read_amber(folder)
    assert [data.part(number) for number in range(1, 6)] == [
        "generative", "existence", "attribute", "attribute", "relation"
    ]  # fmt: skip
    assert data.association == {"sky": ["cloud"], "dog": []}
    assert {"light", "range"} <= data.safe_words
    assert data.row(2) == {"id": 2, "image": "question 2", "question": "", "truth": ANNOTATIONS[1]}


@pytest.mark.parametrize("name", ["query_all.json", "query/query_all.json", "query_generative.json"])
def test_queries_are_found(folder, name):
    (folder / "query").mkdir()
    (folder / name).write_text(json.dumps(QUERIES))
    (folder / "query_discriminative.json").write_text("[")
    assert read_amber(folder).row(2) == {
        "id": 2, "image": "AMBER_0.jpg", "question": "What?", "truth": ANNOTATIONS[1]
    }  # fmt: skip


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("annotations.json", "[{}]", "entry 1: needs `id`, `type`, `truth`"),
        ("annotations.json", '[{"id": "1", "type": "relation", "truth": "no"}]', "`id` must be a number"),
        ("annotations.json", '[{"id": 1, "type": "other", "truth": "no"}]', "id 1: unknown form"),
        ("annotations.json", '[{"id": 1, "type": "generative", "truth": "sky"}]', "id 1: unknown form"),
        ("relation.json", '{"sky": "cloud"}', "an object of lists of words"),
        ("relation.json", None, "is no file"),
        ("safe_words.txt", None, "lacks safe_words.txt"),
    ],
)
def test_bad_folders_are_named(folder, file, text, said):
    if text is None:
        (folder / file).unlink()
    else:
        (folder / file).write_text(text)
    with pytest.raises((ValueError, OSError), match=said):
        read_amber(folder)


def test_no_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="is no folder: give `data` of junyangwang0410/AMBER"):
        read_amber(tmp_path / "none")


def responses(folder, ids, parts=("generative", "existence", "attribute", "relation")):
    (folder / "answers.json").write_text(json.dumps([{"id": number, "response": f"{number}"} for number in ids]))
    return read_responses(folder / "answers.json", read_amber(folder), parts)


def test_whole_parts_are_answered(folder):
    assert responses(folder, [3, 2, 4]) == [(3, "3"), (2, "2"), (4, "4")]
    assert responses(folder, [1, 2, 3, 4], ("existence",)) == [(2, "2")]


def test_ids_may_be_texts(folder):
    assert [number for number, _ in responses(folder, ["3", 2.0, "4"])] == [3, 2, 4]


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        ([2, 2], "id 2 is there twice"),
        ([2, "2"], "id 2 is there twice"),
        ([2, 9, 8], "has answers to 2 ids that AMBER does not have, first 9. Give"),
        ([3, 5], "has no answer to 1 ids of attribute, relation, first 4. Give"),
        ([9], "has answers to 1 ids .*, and no answer to any of generative, existence"),
        ([2.5], "entry 1: `id` must be a whole number, got 2.5"),
        (["two"], "entry 1: `id` must be a whole number, got 'two'"),
        ([float("nan")], "entry 1: `id` must be a whole number, got nan"),
        ([], "is empty"),
    ],
)
def test_bad_ids_are_counted(folder, ids, said):
    with pytest.raises(ValueError, match=said):
        responses(folder, ids)


def test_published_files_are_read():
    data = read_amber(published("amber"))
    assert len(data.annotations) == len(data.queries) == 15_220
    assert sum(data.part(number) == "attribute" for number in data.annotations) == 7_628
    assert data.row(8633)["image"] == "AMBER_1.jpg"
    assert len({query["image"] for query in data.queries.values()}) == 1_004
