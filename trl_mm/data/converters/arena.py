"""Battles of two models that people judged."""

from typing import Any

from .left_out import LeftOut
from .pairs import Row, pair, shared_prompt
from .values import conversation, images_of


def vision_arena(row: dict[str, Any]) -> Row:
    """
    ```python
    {"question_id": "ab12", "images": [{"bytes": b"...", "path": None}],   # or `image`
     "model_a": "gpt-4o", "model_b": "llava",
     "winner": "model_a",   # or model_b, tie, tie (bothbad), both_bad
     "conversation_a": [[{"role": "user", "content": "What is it?"}], [{"role": "assistant", "content": "A dog."}]],
     "conversation_b": [...],   # messages, or lists of them
     "language": "English", "num_turns": 1, "categories": {...}, "judge": "...", ...}
    ```

    VisionArena-Battle, WildVision and others in the layout of Chatbot Arena. Ties are left out, and conversations that
    differ before their last answers: the vote is about all of their answers.
    """
    winner = row["winner"]
    if isinstance(winner, str) and (winner.startswith("tie") or winner in _BOTH_BAD):
        raise LeftOut("tie")
    if winner not in ("model_a", "model_b"):
        raise ValueError(f"`winner` must be model_a, model_b or a tie, got {winner!r}")
    better, worse = ("a", "b") if winner == "model_a" else ("b", "a")
    (chosen, inline), (rejected, _) = (conversation(_flat(row[f"conversation_{side}"])) for side in (better, worse))
    if chosen[:-1] != rejected[:-1]:
        raise LeftOut("conversations that differ before their last answers")
    return pair(
        images_of(row, "images", "image") or inline,
        *shared_prompt(chosen, rejected),
        row_id=row.get("question_id"),
        dataset="VisionArena",
        chosen_model=row.get(f"model_{better}"),
        rejected_model=row.get(f"model_{worse}"),
        language=row.get("language"),
    )


def _flat(turns: Any) -> list[Any]:
    """Messages in one list, whether each turn is a message or a list of some."""
    return [message for turn in turns for message in (turn if isinstance(turn, list) else [turn])]


_BOTH_BAD = ("both_bad", "bothbad")  # in later publications of Chatbot Arena
