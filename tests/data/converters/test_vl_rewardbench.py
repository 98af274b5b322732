import json

import pytest
from support.tiny import tiny_image

from trl_mm.data.converters import find_converter
from trl_mm.data.converters.vl_rewardbench import vl_rewardbench
from trl_mm.data.loading import load_preferences


ROW = {
    "id": "RLAIF-V-7",
    "query": "What is on the table?",
    "image": "1.png",
    "response": ["A cup.", "A dog."],
    "human_ranking": [0, 1],
    "models": ["a", "b"],
    "query_source": "RLAIF-V",
}


@pytest.mark.parametrize("ranking", [[0, 1], [1, 0]])
def test_rank_zero_is_the_better_answer(ranking):
    row = vl_rewardbench({**ROW, "human_ranking": ranking})
    assert [row[name][0]["content"] for name in ("chosen", "rejected")] == [ROW["response"][rank] for rank in ranking]


@pytest.mark.parametrize(
    ("source", "id_", "group"),
    [
        ("WildVision", "1", "general"),
        ("VLFeedback", "1", "general"),
        ("POVID", "1", "hallucination"),
        ("RLHF-V", "1", "hallucination"),
        ("MMMU-Pro", "1", "reasoning"),
        ("MathVerse", "1", "reasoning"),
        (None, "mathverse_12", "reasoning"),
        (None, "mmmu_pro-3", "reasoning"),
        (None, "hallucination_pair-4", "hallucination"),
        (None, "RLAIF-V-4", "hallucination"),
        (None, "wildvision-battle-1", "general"),
        (None, "something", "general"),
        (None, None, "general"),
    ],
)
def test_groups_are_those_of_the_paper(source, id_, group):
    assert vl_rewardbench({**ROW, "query_source": source, "id": id_})["group"] == group


def test_rows_are_read_as_they_are_published(tmp_path):
    tiny_image().save(tmp_path / "1.png")
    (tmp_path / "test.jsonl").write_text(json.dumps(ROW))
    (row,) = load_preferences(tmp_path, split="test", converter=find_converter("vl_rewardbench"))
    assert row["row_id"] == "RLAIF-V-7" and row["images"][0].size == tiny_image().size
    assert (row["group"], row["query_source"]) == ("hallucination", "RLAIF-V")
    assert [message["role"] for name in ("prompt", "chosen", "rejected") for message in row[name]] == [
        "user",
        "assistant",
        "assistant",
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"human_ranking": [0, 0]}, r"row 0: .*`human_ranking` be \[0, 1\] or \[1, 0\]"),
        ({"response": ["A cup."]}, "row 0: .*`response` must hold two texts"),
        ({"human_ranking": None}, "row 0: the converter failed"),
        ({"image": None}, "row 0: An image is missing"),
    ],
)
def test_bad_rows_are_named(tmp_path, change, said):
    tiny_image().save(tmp_path / "1.png")
    (tmp_path / "test.jsonl").write_text(json.dumps({**ROW, **change}))
    with pytest.raises(ValueError, match=said):
        load_preferences(tmp_path, split="test", converter=find_converter("vl_rewardbench"))
