from support.tiny import tiny_row

from trl_mm.corruption.config import CorruptionConfig
from trl_mm.corruption.sampler import CorruptionSampler
from trl_mm.corruption.wording import request
from trl_mm.data.rows import message_text


CONFIG = CorruptionConfig(similarity="lexical", max_attempts=3, least_similarity=0.2)


def rows_of(count):
    return [{**tiny_row(seed), "row_id": str(seed)} for seed in range(count)]


def answer(row):
    return message_text(row["chosen"][-1])


def wrong(row):
    return answer(row).replace("There", "Here").replace("Yes", "No") + " x"


def test_kept_rewritings_become_rejected_answers():
    rows = rows_of(3)
    asked = []

    def write(texts, seeds):
        asked.extend(zip(texts, seeds, strict=True))
        return [wrong(rows[int(row_id)]) for _, row_id, _ in seeds]

    pairs, left_out = CorruptionSampler(CONFIG, write)(rows)
    assert not left_out and [pair["row_id"] for pair in pairs] == ["0", "1", "2"]
    for row, pair in zip(rows, pairs, strict=True):
        assert message_text(pair["rejected"][-1]) == wrong(row)
        assert pair["chosen"] == row["chosen"] and pair["images"] == row["images"]
        assert pair["corrupt_attempts"] == 1 and 0 < pair["corrupt_similarity"] < 1
    assert [seed for _, seed in asked] == [(0, "0", 1), (0, "1", 1), (0, "2", 1)]
    assert all(answer(row) in text for row, (text, _) in zip(rows, asked, strict=True))


def test_refused_rewritings_are_asked_for_again_with_the_reason():
    rows = rows_of(4)
    seen = []

    def write(texts, seeds):
        seen.append(list(zip(texts, seeds, strict=True)))
        replies = {
            ("0", 1): answer(rows[0]),
            ("1", 1): None,
            ("1", 2): "I'm sorry, I cannot do this.",
            ("3", 1): "One two three four five six seven eight nine ten.",
        }
        return [
            answer(rows[2]) if row_id == "2" else replies.get((row_id, attempt), wrong(rows[int(row_id)]))
            for _, row_id, attempt in seeds
        ]

    pairs, left_out = CorruptionSampler(CONFIG, write)(rows)
    assert {pair["row_id"]: pair["corrupt_attempts"] for pair in pairs} == {"0": 2, "1": 3, "3": 2}
    assert left_out == [{"row": "2", "reason": "equal"}]
    assert [[row_id for _, (_, row_id, _) in part] for part in seen] == [
        ["0", "1", "2", "3"],
        ["0", "1", "2", "3"],
        ["1", "2"],
    ]
    question = message_text(rows[0]["prompt"][-1])
    assert seen[1][0][0] == request(question, answer(rows[0]), "equal") != seen[0][0][0]
    assert seen[2][0][0] == request(message_text(rows[1]["prompt"][-1]), answer(rows[1]), "refusal")


def test_messages_keep_their_form():
    (row,) = rows_of(1)
    parts = [{"role": "assistant", "content": [{"type": "text", "text": answer(row)}]}]
    (pair,), _ = CorruptionSampler(CONFIG, lambda texts, seeds: [wrong(row)])([{**row, "chosen": parts}])
    assert pair["rejected"] == [{"role": "assistant", "content": [{"type": "text", "text": wrong(row)}]}]
