import pytest
from support.published_rows import OTHER_ROWS, ROWS

from trl_mm.data.converters.left_out import LeftOut
from trl_mm.data.converters.visual_genome import ha_dpo, in_visual_genome, sentinel


def test_the_context_of_sentinel_ends_the_prompt():
    row = sentinel(ROWS["sentinel"])
    assert row["images"] == ["VG_100K/2316003.jpg"]
    assert row["prompt"] == [
        {"role": "user", "content": "Describe the image."},
        {"role": "assistant", "content": "A man stands on a beach."},
    ]
    assert row["chosen"][0]["content"] == " He holds a board."
    assert row["rejected"][0]["content"] == " He holds an umbrella."


@pytest.mark.parametrize("context", ["", None, " "])
def test_without_a_context_the_prompt_is_the_question(context):
    row = sentinel({**ROWS["sentinel"], "context": context})
    assert len(row["prompt"]) == 1 and row["chosen"][0]["content"] == "He holds a board."


def test_questions_of_ha_dpo():
    row = ha_dpo(ROWS["ha_dpo"])
    assert row["images"] == ["2316003.jpg"] and row["source"] == "pope"
    assert row["rejected"][0]["content"] == "Yes, there is a dog."
    with pytest.raises(LeftOut, match="correct"):
        ha_dpo({**ROWS["ha_dpo"], "correct": True})
    renamed = {**ROWS["ha_dpo"], "reject": None, "rejected": "Yes."}
    assert ha_dpo(renamed)["rejected"][0]["content"] == "Yes."


def test_descriptions_of_ha_dpo_are_all_against_all():
    rows = ha_dpo(OTHER_ROWS["ha_dpo"][0])
    assert len(rows) == 2 * 3 == len({(row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in rows})
    assert {row["prompt"][0]["content"] for row in rows} == {rows[0]["prompt"][0]["content"]}
    assert [row["row_id"] for row in rows] == [f"2316003-{n}" for n in range(6)]
    asked = {ha_dpo({**OTHER_ROWS["ha_dpo"][0], "image_id": n})[0]["prompt"][0]["content"] for n in range(40)}
    assert len(asked) > 1


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/data/VG/VG_100K/1.jpg", "VG_100K/1.jpg"),
        ("VG\\VG_100K_2\\1.jpg", "VG_100K_2/1.jpg"),
        ("/elsewhere/1.jpg", "1.jpg"),
        (b"content", b"content"),
    ],
)
def test_paths_start_at_the_folders_of_visual_genome(path, name):
    assert in_visual_genome(path) == name
