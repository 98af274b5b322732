"""Answers of a model behind an OpenAI-compatible endpoint, such as a vLLM server."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data.shown import shown
from ..judges.remote_client import ChatClient
from .answers import Question, keep_answers, opened_images, shard_size_of


def answer_questions_remotely(
    client: ChatClient,
    questions: Sequence[Question],
    folder: str | Path,
    settings: Mapping[str, Any],
    *,
    batch_size: int | str = 32,
    name: str = "eval",
    rank: int = 0,
    world_size: int = 1,
    digest: str | None = None,
) -> None:
    """
    Ask a model behind an endpoint about images and keep what it answers, as
    [`~trl_mm.eval.answers.answer_questions`] does with one that is loaded.

    Args:
        client ([`~trl_mm.judges.remote_client.ChatClient`]): the endpoint. Its cache keeps each reply as it comes.
        questions, folder, batch_size, name, rank, world_size, digest: as in `answer_questions`.
        settings (`Mapping[str, Any]`): what determines the answers besides the questions.

    Raises:
        JudgeUnavailable: the endpoint does not answer. What came before is kept.
        ValueError: questions are refused, all of them counted. The answers to the others are kept.
    """

    def ask(rows: Sequence[Question]) -> list[str | None]:
        texts = [row["question"] for row in rows]
        return client.complete(list(zip(texts, opened_images(rows), strict=True)))

    def answer(rows: Sequence[Question]) -> list[str]:
        said = ask(rows)
        if None in said:
            raise ValueError(refused())
        return [text for text in said if text is not None]

    def refused() -> str:
        own, left = list(questions), []
        for start in range(0, len(own), size):  # the images of one shard are in memory together
            part = own[start : start + size]
            left += [row for row, said in zip(part, ask(part), strict=True) if said is None]
        return (
            f"{name}: {client.url} refuses {len(left)} of {len(own)} questions, the first "
            f"{shown(repr(left[0]['question']))} about {shown(repr(left[0]['image']))}. The warning says why. The "
            f"answers to the others are kept in {client.cache.folder}: the same command asks only what is missing."
        )

    size = shard_size_of(questions, batch_size)
    keep_answers(questions, folder, settings, answer, size, name=name, rank=rank, world_size=world_size, digest=digest)
