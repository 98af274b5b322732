"""What a model answers to the questions of a benchmark: greedy, in shards from which a killed run resumes."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from PIL import Image
from tqdm.auto import tqdm
from transformers import PreTrainedModel, ProcessorMixin

from ..data.fingerprints import file_digest
from ..data.images import open_image
from ..data.manifest import MANIFEST, open_manifest, read_manifest
from ..data.shards import write_shards
from ..generation import Completer, Request, SamplingSettings
from ..tokens.chat_template import prompt_settings
from ..tokens.control_tokens import check_texts


Question = Mapping[str, Any]
OF_UNKNOWN_BATCHES = 64  # a quarter of a shard's questions, where it is not said how many are asked together


def answer_questions(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    questions: Sequence[Question],
    folder: str | Path,
    settings: Mapping[str, Any],
    *,
    max_new_tokens: int = 256,
    batch_size: int | str = 32,
    cache_implementation: str = "dynamic",
    compile_generation: bool = True,
    name: str = "eval",
    rank: int = 0,
    world_size: int = 1,
    digest: str | None = None,
) -> None:
    """
    Ask a model about images and keep what it answers. An image goes through the model once for all its questions,
    where the prompts have it in front of what they ask.

    Args:
        model ([`~transformers.PreTrainedModel`]): the model.
        processor ([`~transformers.ProcessorMixin`]): its processor.
        questions (`Sequence[Mapping[str, Any]]`): rows with `image` (path, or `None`) and `question`.
        folder (`str` or `Path`): where the answers are kept; a killed run's folder is resumed.
        settings (`Mapping[str, Any]`): what determines the answers besides the questions: model, revision, ...
        max_new_tokens (`int`, *optional*, defaults to `256`): longest answer in tokens.
        batch_size (`int` or `str`, *optional*, defaults to `32`): questions that go through the model together, or
            `"auto"`, as in [`~trl_mm.generation.SamplingSettings`].
        cache_implementation (`str`, *optional*, defaults to `"dynamic"`): where keys and values are kept, as in
            [`~trl_mm.generation.SamplingSettings`].
        compile_generation (`bool`, *optional*, defaults to `True`): whether decoding with a static cache is compiled.
        name (`str`, *optional*, defaults to `"eval"`): name on the progress bar.
        rank (`int`, *optional*, defaults to `0`): this process.
        world_size (`int`, *optional*, defaults to `1`): number of processes.
        digest (`str`, *optional*): [`questions_digest`] of the questions, if it is known already.

    [`read_answers`] reads them once all processes are done.
    """
    sampling = SamplingSettings(
        max_new_tokens,
        temperature=0.0,
        batch_size=batch_size,
        cache_implementation=cache_implementation,
        compile_generation=compile_generation,
    )
    completer = Completer(processor, sampling)

    def answer(rows: Sequence[Question]) -> list[str]:
        prompts = completer.prompts(
            [
                {"images": images, "prompt": as_prompt(row["question"]), "row_id": row["image"] or row["question"]}
                for row, images in zip(rows, opened_images(rows), strict=True)
            ]
        )
        return completer.complete(model, [Request(prompt) for prompt in prompts])

    settings = model_settings(settings, processor, max_new_tokens)
    size = shard_size_of(questions, batch_size)
    keep_answers(questions, folder, settings, answer, size, name=name, rank=rank, world_size=world_size, digest=digest)


def keep_answers(
    questions: Sequence[Question],
    folder: str | Path,
    settings: Mapping[str, Any],
    answer: Callable[[Sequence[Question]], Sequence[str]],
    shard_size: int,
    *,
    name: str = "eval",
    rank: int = 0,
    world_size: int = 1,
    digest: str | None = None,
) -> None:
    """
    Keep the answers of whatever answers, a model or an endpoint, shard by shard. Questions about one image stand
    together.

    Args:
        questions, folder, settings, name, rank, world_size, digest: as in [`answer_questions`].
        answer (`Callable`): function from the rows of a shard to what is said to each.
        shard_size (`int`): questions of a shard, which is what a kill costs at most.
    """
    rows = by_image([{**question, "row_id": str(index)} for index, question in enumerate(questions)])
    bar = tqdm(total=len(rows[rank::world_size]), desc=name, unit="answer", disable=rank != 0)

    def transform(rows: Sequence[Question]) -> list[dict[str, Any]]:
        return [{**row, "answer": said.strip()} for row, said in zip(rows, answer(rows), strict=True)]

    try:
        write_shards(
            folder,
            rows,
            transform,
            {**settings, "questions": digest or questions_digest(questions)},
            shard_size=shard_size,
            rank=rank,
            world_size=world_size,
            on_shard=lambda shard, num_rows: bar.update(num_rows),
        )
    finally:
        bar.close()


def model_settings(settings: Mapping[str, Any], processor: ProcessorMixin, max_new_tokens: int) -> dict[str, Any]:
    """What stands in the manifest of [`answer_questions`], besides the digest of the questions."""
    return {**settings, **prompt_settings(processor), "max_new_tokens": max_new_tokens}


def check_resumable(
    folder: str | Path,
    settings: Mapping[str, Any],
    questions: Sequence[Question],
    batch_size: int | str,
    unknown: Iterable[str] = (),
) -> None:
    """
    Find out whether a folder has answers of other settings, before the model is loaded.

    Args:
        folder (`str` or `Path`): folder of [`answer_questions`]; it need not be there.
        settings (`Mapping[str, Any]`): all that decides the answers, the digest of the questions included.
        questions (`Sequence[Mapping[str, Any]]`): the questions.
        batch_size (`int` or `str`): questions that go through the model together.
        unknown (`Iterable[str]`, *optional*): settings that may only be known with the model; whatever the folder has
            is taken for them, if they are missing.

    Raises:
        ValueError: they differ; the message names the settings.
    """
    folder = Path(folder)
    if not (folder / MANIFEST).exists():
        return
    kept = read_manifest(folder)["settings"]
    guessed = {name: kept[name] for name in unknown if name in kept and name not in settings}
    open_manifest(folder, {**settings, **guessed}, len(questions), shard_size_of(questions, batch_size), rank=0)


def questions_digest(questions: Sequence[Question]) -> str:
    """Digest (`str`) of questions, in the order in which they are asked, and of the content of their images."""
    # By content: a picture that is made anew may keep its name and its size
    named = {question["image"] for question in questions} - {None}
    pictures = {image: file_digest(image) for image in named}
    return hashlib.sha256(json.dumps([by_image(questions), pictures], sort_keys=True).encode()).hexdigest()


def by_image(questions: Sequence[Question]) -> list[Question]:
    """Questions with those about one image beside one another; otherwise they keep their order."""
    places: dict[Any, int] = {}
    for question in questions:
        places.setdefault(question["image"], len(places))
    return sorted(questions, key=lambda question: places[question["image"]])


def shard_size_of(questions: Sequence[Question], batch_size: int | str) -> int:
    """Questions of a shard: four batches, or about as many that tear no image's questions apart, if all have alike."""
    if isinstance(batch_size, str):  # found by trial, on whatever machine a killed run goes on
        batch_size = OF_UNKNOWN_BATCHES
    sizes = Counter(question["image"] for question in questions).values()
    each = max(sizes, default=1) if len(set(sizes)) == 1 else 1
    return each * max(1, round(4 * batch_size / each))


def opened_images(rows: Iterable[Question]) -> list[list[Image.Image]]:
    """For each row the image that it shows, if any: the same object for the same image, so that it is seen once."""
    rows = list(rows)
    named = list({row["image"] for row in rows} - {None})
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:  # decoders let other threads run
        opened = {image: [found] for image, found in zip(named, threads.map(open_image, named), strict=True)}
    return [opened.get(row["image"], []) for row in rows]


def check_questions(questions: Iterable[Question], processor: ProcessorMixin, name: str) -> None:
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
    shards = sorted(Path(folder).glob("shard-*.parquet"))
    tables = [pq.read_table(shard, columns=["row_id", "answer"]).to_pydict() for shard in shards]
    answers = {int(row): said for table in tables for row, said in zip(table["row_id"], table["answer"], strict=True)}
    return [answers[row] for row in sorted(answers)]
