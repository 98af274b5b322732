import json

import pytest
from support.published import published

from trl_mm.data.converters.mmpr_meta import Annotation, is_meta, mmpr_annotations


ENTRY = {"root": "images/A", "annotation": "annotations/a.jsonl", "data_augment": False, "repeat_time": 2, "length": 9}


def test_files_and_their_image_roots():
    meta = {"a": ENTRY, "text": {"annotation": "annotations/t.jsonl", "root": None, "repeat_time": "x"}}
    assert mmpr_annotations(meta) == [
        Annotation("a", "annotations/a.jsonl", "images/A", 2.0),
        Annotation("text", "annotations/t.jsonl", "", 1.0),
    ]


def test_a_published_meta_file():
    meta = json.loads(published("preference_omnialign_v/ominialign_v_dpo.meta.json").read_text())
    found = mmpr_annotations(meta)
    assert [annotation.name for annotation in found] == [*meta] and len(found) == 6
    assert all(annotation.file.endswith(".jsonl") and annotation.image_root for annotation in found)


@pytest.mark.parametrize("value", [[], {}, None, {"question": "What?", "chosen": "A"}, [ENTRY]])
def test_rows_are_no_meta_file(value):
    assert not is_meta(value)
    with pytest.raises(ValueError, match="A meta file must be an object of entries with `annotation`"):
        mmpr_annotations(value)


@pytest.mark.parametrize("entry", [{**ENTRY, "annotation": 3}, {**ENTRY, "root": ["a"]}])
def test_paths_are_texts(entry):
    with pytest.raises(ValueError, match="of 'a' must be paths"):
        mmpr_annotations({"a": entry})
