"""SFT rows in, preference rows out: the rejected answer is the chosen one with plausible errors."""

from collections.abc import Callable, Sequence
from typing import Any

from ..bdhs.similarity import make_similarity
from ..data.rows import check_row, message_text
from .checks import cleaned, fault, fault_of_similarity
from .config import CorruptionConfig
from .wording import request


NEEDS = ("images", "prompt", "chosen")

Write = Callable[[Sequence[str], Sequence[tuple]], Sequence[str | None]]
"""From texts, and what the samples of each derive from, to replies; `None` where the model was not allowed to."""


class CorruptionSampler:
    """
    Has a text model rewrite chosen answers with realistic errors (arXiv 2407.02477, section 3 and Table 13).

    Args:
        config ([`CorruptionConfig`]): settings.
        write (`Callable`): the text model: from texts (`list[str]`) and seeds (`list[tuple]`) to replies
            (`list[str | None]`), as [`LocalWriter`] and [`RemoteWriter`] do.
        device (`str`, *optional*): where an embedding model for the similarity runs.

    Returns, when called with rows, the rows that got a rejected answer, with the columns `corrupt_attempts` and
    `corrupt_similarity`, and a list of those that got none, with the reason of the last attempt.
    """

    def __init__(self, config: CorruptionConfig, write: Write, device: str | None = None):
        self.config, self.write = config, write
        self.similarity = make_similarity(config.similarity, device)

    def __call__(self, rows: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        texts = [self._texts(row) for row in rows]
        pairs: dict[int, dict[str, Any]] = {}
        refused: dict[int, str | None] = dict.fromkeys(range(len(rows)))
        for attempt in range(1, self.config.max_attempts + 1):
            pending = [index for index in refused if index not in pairs]
            if not pending:
                break
            replies = self.write(
                [request(*texts[index], refused[index]) for index in pending],
                [(self.config.seed, rows[index]["row_id"], attempt) for index in pending],
            )
            kept = {}
            for index, reply in zip(pending, replies, strict=True):
                rewriting = cleaned(reply or "")
                refused[index] = fault(texts[index][1], rewriting, self.config)
                if refused[index] is None:
                    kept[index] = rewriting
            similarities = self.similarity(list(kept.values()), [texts[index][1] for index in kept]) if kept else []
            for (index, rewriting), similarity in zip(kept.items(), similarities, strict=True):
                refused[index] = fault_of_similarity(similarity, self.config)
                if refused[index] is None:
                    pairs[index] = as_pair(rows[index], rewriting, attempt, similarity)
        left_out = [
            {"row": rows[index]["row_id"], "reason": reason} for index, reason in refused.items() if index not in pairs
        ]
        return [pairs[index] for index in sorted(pairs)], left_out

    def _texts(self, row: dict[str, Any]) -> tuple[str, str]:
        """Question and chosen answer of a row."""
        check_row(row, f"Row {row['row_id']}", NEEDS)
        asked = [
            message_text(message) for message in (*row["prompt"], *row["chosen"][:-1]) if message["role"] != "system"
        ]
        answer = message_text(row["chosen"][-1]).strip()
        if not answer:
            raise ValueError(
                f"Row {row['row_id']}: the answer in `chosen` has no text, so no rejected one can be made from it. "
                "Remove the row."
            )
        return "\n".join(asked).strip(), answer


def as_pair(row, rejected, attempts, similarity):
    """The row with `rejected`, in messages like those of `chosen`, and what is known of how it was made."""
    *earlier, last = row["chosen"]
    content = [{"type": "text", "text": rejected}] if isinstance(last.get("content"), list) else rejected
    return {
        **row,
        "rejected": [*earlier, {"role": "assistant", "content": content}],
        "corrupt_attempts": attempts,
        "corrupt_similarity": round(float(similarity), 6),
    }
