import json

import pytest

from trl_mm.eval.objects import load_annotations


GOOD = {
    "images": [{"id": 7, "file_name": "b.png"}, {"id": 3, "file_name": "a.png"}, {"id": 9, "file_name": "c.png"}],
    "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}],
    "annotations": [
        {"image_id": 3, "category_id": 1, "bbox": [0, 0, 5, 5]},
        {"image_id": 3, "category_id": 1},
        {"image_id": 3, "category_id": 2},
        {"image_id": 9, "category_id": 2},
    ],
}


def test_load_annotations(tmp_path):
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(GOOD), encoding="utf-8")
    annotations = load_annotations(path)
    assert annotations == {"b.png": set(), "a.png": {"dog", "cat"}, "c.png": {"cat"}}
    assert list(annotations) == ["b.png", "a.png", "c.png"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ([], "no list `categories`"),
        ({"categories": None}, "no list `categories`"),
        ({"images": {}}, "no list `images`"),
        ({"images": [{"id": 3}]}, r"`images\[0\]` needs id and file_name"),
        ({"images": ["a.png"]}, r"`images\[0\]` needs id and file_name"),
        ({"images": [{"id": 3, "file_name": ["a"]}]}, r"`images\[0\]` needs id and file_name"),
        ({"images": GOOD["images"] + [{"id": 4, "file_name": "a.png"}]}, "share an `id` or a `file_name`"),
        ({"images": GOOD["images"] + [{"id": 3, "file_name": "d.png"}]}, "share an `id` or a `file_name`"),
        ({"annotations": [{"image_id": 8, "category_id": 1}]}, r"`annotations\[0\]` has `image_id` 8"),
        ({"annotations": [{"image_id": 3, "category_id": 5}]}, r"`annotations\[0\]` has `category_id` 5"),
    ],
)
def test_bad_annotations(tmp_path, change, message):
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(GOOD | change if isinstance(change, dict) else change), encoding="utf-8")
    with pytest.raises(ValueError, match=message) as error:
        load_annotations(path)
    assert str(path) in str(error.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no annotation file at .*gone.json"):
        load_annotations(tmp_path / "gone.json")


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe"])
def test_annotations_that_are_not_json(tmp_path, content):
    path = tmp_path / "instances.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="instances.json is not a JSON file in UTF-8"):
        load_annotations(path)
