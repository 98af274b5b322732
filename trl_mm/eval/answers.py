"""What a model answers to the questions of a benchmark: greedy, in shards from which a killed run resumes."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from tqdm.auto import tqdm
from transformers import PreTrainedModel, ProcessorMixin

from ..data.fingerprints import file_digest
from ..data.images import open_image
from ..data.shards import write_shards
from ..generation import Completer, Request, SamplingSettings
from ..tokens.chat_template import prompt_settings
from ..tokens.control_tokens import check_texts


def answer_questions(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    questions: Sequence[Mapping[str, Any]],
    folder: str | Path,
    settings: Mapping[str, Any],
    *,
    max_new_tokens: int = 256,
    batch_size: int = 32,
    name: str = "eval",
    rank: int = 0,
    world_size: int = 1,
) -> None:
    """
    Ask a model about images and keep what it answers.

    Args:
        model ([`~transformers.PreTrainedModel`]): the model.
        processor ([`~transformers.ProcessorMixin`]): its processor.
        questions (`Sequence[Mapping[str, Any]]`): rows with `image` (path) and `question`.
        folder (`str` or `Path`): where the answers are kept; a killed run's folder is resumed.
        settings (`Mapping[str, Any]`): what determines the answers besides the questions: model, revision, ...
        max_new_tokens (`int`, *optional*, defaults to `256`): longest answer in tokens.
        batch_size (`int`, *optional*, defaults to `32`): questions that go through the model together.
        name (`str`, *optional*, defaults to `"eval"`): name on the progress bar.
        rank (`int`, *optional*, defaults to `0`): this process.
        world_size (`int`, *optional*, defaults to `1`): number of processes.

    [`read_answers`] reads them once all processes are done.
    """
    completer = Completer(processor, SamplingSettings(max_new_tokens, temperature=0.0, batch_size=batch_size))
    rows = [{"row_id": str(index), **question} for index, question in enumerate(questions)]
    bar = tqdm(total=len(range(rank, len(rows), world_size)), desc=name, unit="answer", disable=rank != 0)

    def transform(rows):
        prompts = completer.prompts(
            [
                {
                    "images": [open_image(row["image"])],
                    "prompt": as_prompt(row["question"]),
                    "row_id": row["image"],
                }
                for row in rows
            ]
        )
        answers = completer.complete(model, [Request(prompt) for prompt in prompts])
        return [{**row, "answer": answer.strip()} for row, answer in zip(rows, answers, strict=True)]

    # By content: a picture that is made anew may keep its name and its size
    pictures = {image: file_digest(image) for image in {question["image"] for question in questions}}
    digest = hashlib.sha256(json.dumps([questions, pictures], sort_keys=True).encode()).hexdigest()
    settings = {**settings, **prompt_settings(processor), "max_new_tokens": max_new_tokens, "questions": digest}
    try:
        write_shards(
            folder,
            rows,
            transform,
            settings,
            shard_size=4 * batch_size,
            rank=rank,
            world_size=world_size,
            on_shard=lambda shard, num_rows: bar.update(num_rows),
        )
    finally:
        bar.close()


def check_questions(questions: Iterable[Mapping[str, Any]], processor: ProcessorMixin, name: str) -> None:
    """
    Find out whether [`answer_questions`] can ask these questions, before the model is loaded.

    Args:
        questions (`Iterable[Mapping[str, Any]]`): rows with `question`.
        processor ([`~transformers.ProcessorMixin`]): processor of the model.
        name (`str`): name of the benchmark, for messages.

    Raises:
        ValueError: a question spells an image.
    """
    # Each text once: POPE and captions ask the same of many images
    asked = dict.fromkeys(question["question"] for question in questions)
    rows = [{"row_id": f"of {name}", "prompt": as_prompt(question)} for question in asked]
    check_texts(rows, processor, f"The benchmark {name}")


def as_prompt(question: str) -> list[dict[str, str]]:
    """A question as the messages of a row."""
    return [{"role": "user", "content": question}]


def read_answers(folder: str | Path) -> list[str]:
    """Answers of a finished folder of [`answer_questions`], in the order of the questions."""
    return Dataset.from_parquet(sorted(str(path) for path in Path(folder).glob("shard-*.parquet")))["answer"][:]
