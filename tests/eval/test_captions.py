import json

import pytest
from support.published import published

from trl_mm.eval.captions import add_objects_of_captions, load_captions
from trl_mm.eval.objects import ObjectVocabulary, load_annotations


GOOD = {
    "images": [{"id": 7, "file_name": "b.png"}, {"id": 3, "file_name": "a.png"}],
    "annotations": [
        {"image_id": 3, "caption": "A dog and its puppies."},
        {"image_id": 7, "caption": "A hot dog."},
        {"image_id": 3, "caption": "Nothing much."},
    ],
}


def write(tmp_path, content):
    path = tmp_path / "captions.json"
    path.write_text(json.dumps(content))
    return path


def test_captions_belong_to_their_images(tmp_path):
    captions = load_captions(write(tmp_path, GOOD))
    assert captions == {"b.png": ["A hot dog."], "a.png": ["A dog and its puppies.", "Nothing much."]}
    assert list(captions) == ["b.png", "a.png"]


def test_objects_that_captions_name_join_those_of_the_instances(tmp_path):
    vocabulary = ObjectVocabulary({"dog": ["puppy"], "hot dog": [], "cat": []})
    truths = {"a.png": {"cat"}, "b.png": set()}
    joined = add_objects_of_captions(truths, load_captions(write(tmp_path, GOOD)), vocabulary)
    assert joined == {"a.png": {"cat", "dog"}, "b.png": {"hot dog"}}
    assert truths == {"a.png": {"cat"}, "b.png": set()}, "POPE asks about the instances alone"


def test_an_image_without_captions_is_named(tmp_path):
    captions = load_captions(write(tmp_path, GOOD | {"annotations": GOOD["annotations"][:1]}))
    with pytest.raises(ValueError, match="2 of 3 images have no reference captions, such as b.png"):
        add_objects_of_captions(
            dict.fromkeys(["a.png", "b.png", "c.png"], set()), captions, ObjectVocabulary({"x": []})
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": None}, "no list `images`: a COCO-style captions JSON has `images`, `annotations`"),
        ({"annotations": [{"image_id": 3}]}, r"`annotations\[0\]` needs image_id and caption"),
        ({"annotations": [{"image_id": 8, "caption": ""}]}, r"`annotations\[0\]` has `image_id` 8"),
        ({"images": GOOD["images"] * 2}, "share an `id` or a `file_name`"),
    ],
)
def test_bad_captions(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        load_captions(write(tmp_path, GOOD | change))


def test_missing_captions(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone.json: give a COCO-style captions JSON"):
        load_captions(tmp_path / "gone.json")


def test_the_truth_of_photos_is_that_of_the_published_chair():
    """On 50 of 51 photos. On the last one the published truth has a bowl more; a caption speaks of a container."""
    truths = load_annotations(published("photos_coco_cc/instances_subset.json"))
    captions = load_captions(published("photos_coco_cc/captions_subset.json"))
    found = json.loads(published("golden/chair/ground_truth_objects_of_photos_coco_cc.json").read_text())
    expected = {f"{int(number):012}.jpg": set(objects) for number, objects in found.items()}
    joined = add_objects_of_captions(truths, captions, ObjectVocabulary.from_file())
    differing = {image: joined[image] ^ expected[image] for image in truths if joined[image] != expected[image]}
    assert joined.keys() == expected.keys() and differing == {"000000213148.jpg": {"bowl"}}
