"""VL-RewardBench (arXiv 2411.17451, MMInstruction/VL-RewardBench): pairs of answers that people ranked, for judges."""

from typing import Any

from .pairs import pair


# By `query_source`, or by what an id begins with, without case and punctuation
GROUPS = {
    "wildvision": "general",
    "vlfeedback": "general",
    "povid": "hallucination",
    "hallucinationpair": "hallucination",  # ids of those that are from POVID
    "rlaifv": "hallucination",
    "rlhfv": "hallucination",
    "mmmu": "reasoning",
    "mathverse": "reasoning",
}


def vl_rewardbench(row: dict[str, Any]) -> dict[str, Any]:
    """
    ```python
    {"id": "RLAIF-V-1017",
     "query": "What is on the table?",
     "image": image,
     "response": ["A cup and a laptop.", "A cup."],
     "human_ranking": [1, 0],  # [0, 1]: the first is better; [1, 0]: the second is
     "query_source": "RLAIF-V", ...}
    ```

    The better answer becomes `chosen`. `group` is one of the three that the paper reports (general, hallucination,
    reasoning), by `query_source` where there is one and by the id otherwise; what is from neither is general, as in
    the published script. `query_source` stays. Beware of training data that hold the same pairs: RLAIF-V, RLHF-V,
    POVID and VLFeedback are training sets.
    """
    responses, ranking = list(row["response"]), [int(rank) for rank in row["human_ranking"]]
    if len(responses) != 2 or sorted(ranking) != [0, 1]:
        raise ValueError(
            f"`response` must hold two texts, `human_ranking` be [0, 1] or [1, 0]; got {len(responses)}, {ranking}"
        )
    source = row.get("query_source")
    return pair(
        [row["image"]],
        row["query"],
        responses[ranking.index(0)],
        responses[ranking.index(1)],
        row_id=row.get("id"),
        group=_group(source, row.get("id")),
        query_source=source,
    )


def _group(*names: Any) -> str:
    for name in names:
        spelled = "".join(filter(str.isalnum, str(name or "").lower()))
        for start, group in GROUPS.items():
            if spelled.startswith(start):
                return group
    return "general"
