import json

import pytest

from trl_mm.eval.chair_files import match_captions, read_captions, read_truths


COCO = {
    "images": [{"id": 1, "file_name": "COCO_val2014_000000000001.jpg"}],
    "annotations": [{"image_id": 1, "category_id": 2}],
    "categories": [{"id": 2, "name": "dog"}],
}


@pytest.fixture
def write(tmp_path):
    def write(text):
        (tmp_path / "file.json").write_text(text if isinstance(text, str) else json.dumps(text))
        return tmp_path / "file.json"

    return write


def test_truths_are_lists_or_instances(write):
    assert read_truths(write({"1": ["dog", "dog"], "2": []})) == {"1": {"dog"}, "2": set()}
    assert read_truths(write(COCO)) == {"COCO_val2014_000000000001.jpg": {"dog"}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "is empty"),
        ("[[]]", "holds no JSON object"),
        ('{"1": "dog"}', "image '1' needs a list of names of objects, got dog"),
        ('{"1": [2]}', "image '1' needs a list"),
        ("{", "no JSON"),
    ],
)
def test_bad_truths_are_named(write, text, said):
    with pytest.raises(ValueError, match=said):
        read_truths(write(text))


@pytest.mark.parametrize(
    "text",
    [
        '{"image_id": 1, "caption": "A dog."}\n{"image": "2.jpg", "answer": ""}',
        '[{"image_id": "1", "text": "A dog."}, {"image": "2.jpg", "caption": ""}]',
        '{"overall": {}, "imgToEval": {"1": {"image_id": 1, "caption": "A dog."}, "2.jpg": {"caption": ""}}}',
    ],
)
def test_captions_are_read_in_all_forms(write, text):
    assert read_captions(write(text)) == [("1", "A dog."), ("2.jpg", "")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"caption": "A dog."}', "entry 1: needs `image` or `image_id`, and `caption`"),
        ('{"image": "1"}', "entry 1: needs"),
        ('{"image": ["1"], "caption": "A dog."}', "entry 1: needs"),
        ('{"image": "1", "caption": 3}', "entry 1: `caption` must be a text, got 3"),
        ('{"imgToEval": {"1": 2}}', "entry 1: needs"),
        ("[3]", "entry 1: needs"),
        ('{"overall": {}, "imgToEval": {}}', "has no caption"),
    ],
)
def test_bad_captions_are_named(write, text, said):
    with pytest.raises(ValueError, match=said):
        read_captions(write(text))


def test_captions_find_their_images_by_any_name(tmp_path):
    truths = {"COCO_val2014_000000000001.jpg": {"dog"}, "2": {"cat"}}
    rows = match_captions(tmp_path, [("1", "A dog."), ("val/000000000002.jpg", "")], truths)
    assert [(row["image"], row["truth"]) for row in rows] == list(truths.items())
    with pytest.raises(ValueError, match="1 of 2 captions in .* 'x'; 1 images of `truths` have no caption"):
        match_captions(tmp_path, [("x", "A dog."), ("2", "")], truths)
