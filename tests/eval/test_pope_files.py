import json
import re
from collections import Counter

import pytest
from support.published import published

from trl_mm.eval.pope_files import read_pope_files, with_suffix


LINES = [
    {"question_id": 1, "image": "a.jpg", "text": "Is there a dog?", "label": "yes"},
    {"question_id": 2, "image": "a.jpg", "text": "Is there an\u2028owl?", "label": "No"},
]
READ = [
    {"image": "a.jpg", "question": "Is there a dog?", "label": "yes", "category": "coco_pope_random"},
    {"image": "a.jpg", "question": "Is there an\u2028owl?", "label": "no", "category": "coco_pope_random"},
]


def test_json_lines_and_json_arrays_read_alike(tmp_path):
    path = tmp_path / "coco_pope_random.json"
    for text in (
        "\n".join(json.dumps(line, ensure_ascii=False) for line in LINES) + "\n\n",
        json.dumps(LINES, indent=4),
    ):
        path.write_text(text, encoding="utf-8")
        assert read_pope_files([path]) == READ


def test_popev2(tmp_path):
    path = tmp_path / "v2.json"
    path.write_text(json.dumps([{"image_name": "/images/1.jpg", "query": "Is there a cup?", "label": "No"}]))
    expected = {"image": "images/1.jpg", "question": "Is there a cup?", "label": "no", "category": "v2"}
    assert read_pope_files([path]) == [expected]


def test_categories_are_files_unless_rows_have_their_own(tmp_path):
    paths = [tmp_path / "one.json", tmp_path / "two.json"]
    paths[0].write_text("\n".join(json.dumps({**row, "category": row["label"]}) for row in LINES))
    paths[1].write_text(json.dumps(LINES))
    assert [row["category"] for row in read_pope_files(paths)] == ["yes", "No", "two", "two"]
    (tmp_path / "gqa").mkdir()
    other = (tmp_path / "gqa" / "two.json").resolve()
    other.write_text(json.dumps(LINES))
    with pytest.raises(ValueError, match="two.json and .*gqa/two.json both have questions of the category 'two'"):
        read_pope_files([*paths, other])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no question"),
        ("[]", "holds no question"),
        ('{"image": "a", "text": "b", "label": "yes"}\n{"image": "a"', "line 2: needs a JSON object"),
        ('{"image": "a", "label": "yes"}', "line 1: needs a JSON object with `image`, `text` and `label`"),
        ('"image"', "line 1: needs a JSON object.*got 'image'"),
        ('["image", "text", "label"]', "entry 1: needs a JSON object"),
        ('[{"image": "a", "text": "b", "label": "yes"}', "starts as a JSON array and is none"),
        ('{"image_name": "a", "text": "b", "label": "yes"}', "line 1: needs a JSON object"),
        ('{"image": "a", "text": "b", "label": true}', "line 1: needs a JSON object"),
        ('{"image": "a", "text": "b", "category": "random"}', "llava_pope_test.jsonl has no labels"),
        ('{"image": "a", "text": "b", "label": "maybe"}', "line 1: `label` must be yes or no, got 'maybe'"),
    ],
)
def test_bad_files(tmp_path, content, message):
    path = tmp_path / "pope.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message) as error:
        read_pope_files([path])
    assert str(path) in str(error.value)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no POPE file at .*gone.json"):
        read_pope_files([tmp_path / "gone.json"])


def test_a_suffix_is_added_once():
    assert with_suffix("Is it?", None) == with_suffix("Is it?", "") == "Is it?"
    assert with_suffix("Is it?", "One word.") == with_suffix("Is it?\nOne word.", "One word.") == "Is it?\nOne word."


@pytest.mark.parametrize("name", ["coco_pope_{}", "aokvqa_pope_seem_{}", "gqa_pope_seem_{}"])
def test_published_files(name):
    stems = [name.format(kind) for kind in ("random", "popular", "adversarial")]
    rows = read_pope_files([published(f"pope/{stem}.json") for stem in stems])
    assert Counter(row["category"] for row in rows) == dict.fromkeys(stems, 3000)
    assert Counter(row["label"] for row in rows) == {"yes": 4500, "no": 4500}
    assert all(row["question"].startswith("Is there a") for row in rows)


def test_published_popev2():
    rows = read_pope_files([published("pope/popev2_annotations.json")])
    assert Counter(row["label"] for row in rows) == {"yes": 500, "no": 500}
    assert {row["image"].split("/")[0] for row in rows} == {"images", "coco"}


def test_labels_agree_with_the_published_segmentation():
    """The same counts as those of an independent reader."""
    lines = published("pope/coco_val_ground_truth_segmentation.jsonl").read_text().splitlines()
    truths = {entry["image"]: set(entry["objects"]) for entry in map(json.loads, lines)}
    checks = json.loads(published("golden/pope_ground_truth_check.json").read_text())["splits"]
    for split, check in checks.items():
        counts = Counter()
        for row in read_pope_files([published(f"pope/coco_pope_{split}.json")]):
            object_ = re.fullmatch(r"Is there an? (.*) in the image\?", row["question"])[1]
            if row["image"] not in truths:
                counts["image missing"] += 1
            else:
                counts[f"{row['label']} {'' if object_ in truths[row['image']] else 'not '}in truth"] += 1
        assert counts == check["counts"]
