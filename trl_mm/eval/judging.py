"""Judges of benchmarks: an endpoint or a model that is loaded here, whose replies are kept on disk."""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ..data.atomic_file import replacing
from ..data.protocols import JudgeUnavailable
from ..generation import Completer, Request, SamplingSettings
from ..judges.remote_client import ChatClient
from ..judges.reply_cache import ReplyCache, reply_key
from ..tokens.chat_template import with_system_prompt
from ..tokens.control_tokens import as_text, image_placeholders
from .answers import as_prompt
from .benchmark import Ask, Benchmark


logger = logging.getLogger(__name__)

Asked = Sequence[tuple[str, Sequence[Image.Image]]]


class EndpointAsk:
    """
    An [`Ask`] that puts the questions to an OpenAI-compatible endpoint.

    Args:
        model (`str`): name of the model at the endpoint.
        base_url (`str`): the endpoint, up to `/v1`.
        benchmark ([`Benchmark`]): whose `judge_options` and `judge_system` are sent.
        options (`Mapping[str, Any]`, *optional*): fields of the request before all others; `None` leaves one out.
        **client_settings: further arguments of [`~trl_mm.judges.remote_client.ChatClient`].

    Raises:
        ValueError: an argument is out of range, or there is no key for OpenAI's own endpoint.
    """

    def __init__(
        self,
        model: str,
        base_url: str,
        benchmark: Benchmark,
        options: Mapping[str, Any] | None = None,
        **client_settings: Any,
    ):
        self.benchmark, self.options = benchmark, options or {}
        self.clients: dict[str, ChatClient] = {}
        self._client = lambda options: ChatClient(
            model, base_url, options=options, system_prompt=benchmark.judge_system, **client_settings
        )
        self._client_with({})  # refuses settings before anything long begins

    def __call__(self, questions: Asked, **options: Any) -> list[str | None]:
        return self._client_with(options).complete([(text, list(images)) for text, images in questions])

    def _client_with(self, options: Mapping[str, Any]) -> ChatClient:
        merged = merged_options(self.benchmark, options, self.options)
        key = json.dumps(merged, sort_keys=True)
        if key not in self.clients:
            self.clients[key] = self._client(merged)
        return self.clients[key]


class LocalAsk:
    """
    An [`Ask`] that puts the questions to a model that is loaded here, at the first question without a kept reply. It
    answers greedily: of the options, only `max_tokens` counts.

    Args:
        load (`Callable`): function that gives the model and its processor.
        weights (`str`): digest of its weights, under which replies are kept.
        benchmark ([`Benchmark`]): whose `judge_options` and `judge_system` are sent.
        cache_dir (`str` or `Path`): folder of the replies.
        options (`Mapping[str, Any]`, *optional*): options before those of the benchmark.
        batch_size (`int`, *optional*, defaults to `8`): questions that go through the model together.
    """

    def __init__(
        self,
        load: Callable[[], tuple[Any, Any]],
        weights: str,
        benchmark: Benchmark,
        cache_dir: str | Path,
        options: Mapping[str, Any] | None = None,
        batch_size: int = 8,
    ):
        self.load, self.weights, self.benchmark = load, weights, benchmark
        self.options, self.batch_size = options or {}, batch_size
        self.cache = ReplyCache(cache_dir)

    def __call__(self, questions: Asked, **options: Any) -> list[str | None]:
        longest = merged_options(self.benchmark, options, self.options).get("max_tokens", 1024)
        request = {"judge": self.weights, "system": self.benchmark.judge_system, "max_tokens": longest}
        keys = [reply_key({**request, "text": text}, images) for text, images in questions]
        replies = {key: self.cache.get(key) for key in keys}
        missing = {key: asked for key, asked in zip(keys, questions, strict=True) if replies[key] is None}
        waiting = list(missing)
        for start in range(0, len(waiting), 4 * self.batch_size):  # so that a kill costs little
            part = waiting[start : start + 4 * self.batch_size]
            for key, reply in zip(part, self._replies([missing[key] for key in part], longest), strict=True):
                replies[key] = reply
                if reply is not None:
                    self.cache.put(key, reply)
        return [replies[key] for key in keys]

    def _replies(self, questions: Asked, longest: int) -> list[str | None]:
        model, processor = self.load()
        processor = with_system_prompt(processor, self.benchmark.judge_system)
        completer = Completer(processor, SamplingSettings(longest, temperature=0.0, batch_size=self.batch_size))
        # An answer that spells an image or the end of a turn would be read as one
        added = processor.tokenizer.added_tokens_decoder.values()
        tokens = {token.content for token in added if token.special and not token.content.isspace()}
        tokens |= image_placeholders(processor)
        prompts = completer.prompts(
            [{"images": list(images), "prompt": as_prompt(as_text(text, tokens))} for text, images in questions]
        )
        room = getattr(model.config.get_text_config(), "max_position_embeddings", None) or float("inf")
        fitting = [number for number, prompt in enumerate(prompts) if len(prompt.ids) + longest <= room]
        if len(fitting) < len(prompts):
            logger.warning(
                "%d of %d questions are longer than the judge can read (%d tokens) and are not judged.",
                len(prompts) - len(fitting),
                len(prompts),
                room,
            )
        replies = completer.complete(model, [Request(prompts[number]) for number in fitting])
        judged = dict(zip(fitting, replies, strict=True))
        return [judged.get(number) for number in range(len(prompts))]


def merged_options(benchmark: Benchmark, options: Mapping[str, Any], overriding: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a request (`dict[str, Any]`): of the benchmark, then of the question, then of the user."""
    merged = {**(benchmark.judge_options or {}), **options, **overriding}
    return {name: value for name, value in merged.items() if value is not None}


def judge_answers(
    benchmark: Benchmark,
    questions: Sequence[Mapping[str, Any]],
    asked: Sequence[Mapping[str, Any]],
    answers: Sequence[str],
    ask: Ask,
    path: Path,
) -> list[dict[str, Any]]:
    """
    Have a judge look at answers, and keep what it said.

    Args:
        benchmark ([`Benchmark`]): the benchmark.
        questions (`Sequence[Mapping[str, Any]]`): its rows.
        asked (`Sequence[Mapping[str, Any]]`): the same with the paths of their images.
        answers (`Sequence[str]`): what the model said to each.
        ask ([`Ask`]): the judge.
        path (`Path`): file for what it said, JSON lines.

    Returns:
        `list[dict[str, Any]]`: the rows of `questions` with the columns of the judge.

    Raises:
        JudgeUnavailable: it does not answer. Replies that came before are kept.
        ValueError: it refuses all questions, or the key.
    """
    try:
        found = benchmark.judge(with_paths(questions, asked), answers, ask)
    except JudgeUnavailable as error:
        raise JudgeUnavailable(
            f"{path.parent.name}: {error} All answers are there: the same command goes on."
        ) from error
    with replacing(path, "main") as file:
        for row, said, columns in zip(questions, answers, found, strict=True):
            shown = {"image": row["image"], "question": row["question"], "answer": said, **columns}
            file.write(json.dumps(shown).encode() + b"\n")
    return [{**row, **columns} for row, columns in zip(questions, found, strict=True)]


def judge_prompt_digest(
    benchmark: Benchmark, questions: Sequence[Mapping[str, Any]], asked: Sequence[Mapping[str, Any]]
) -> str:
    """Digest (`str`) of what a judge is asked, whatever the answers: the same for runs that can be compared."""
    texts: list[str] = []

    def record(questions: Asked, **options: Any) -> list[str | None]:
        texts.extend(text for text, _ in questions)
        return [None] * len(questions)

    benchmark.judge(with_paths(questions, asked), ["(answer)"] * len(questions), record)
    return hashlib.sha256(json.dumps([benchmark.judge_system, texts]).encode()).hexdigest()


def with_paths(questions: Sequence[Mapping[str, Any]], asked: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows, `image` the path of its file."""
    return [{**row, "image": there["image"]} for row, there in zip(questions, asked, strict=True)]
