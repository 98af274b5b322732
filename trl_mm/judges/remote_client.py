"""The one client of OpenAI-compatible endpoints with images: concurrency, retries, a cache of replies.

The key is read from the environment when requests are made. It is kept nowhere and hidden in what an endpoint says.

Not the client of the package `openai`: its pauses cannot be set, a reply that is no chat completion is not asked for
again, its errors hold the key where an endpoint repeats it, and a limit on the whole time and size of a reply would
have to be put beneath it all the same.
"""

import asyncio
import base64
import io
import json
import logging
import os
import random
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
from huggingface_hub.constants import HF_HOME
from PIL import Image

from ..data.protocols import JudgeUnavailable
from .bounded_http import BadReply, bounded_post, retry_after
from .endpoint_text import broken, json_of, message_of, reply_of
from .prompts import Images, Questions
from .reply_cache import ReplyCache, reply_key


logger = logging.getLogger(__name__)

OPENAI_URL = "https://api.openai.com/v1"
IMAGE_FORMATS = ("jpeg", "png")

Question = tuple[str, Images]
Answer = tuple[str | None, str | None]  # reply, or why the question was refused

_LATER = (408, 409, 425, 429)  # and what is 500 or more: worth another attempt
_THIS_QUESTION = (400, 413, 422)  # an image or a text that the model does not take


class ChatClient:
    """
    Asks a model behind an OpenAI-compatible endpoint (`POST {base_url}/chat/completions`) about images.

    Args:
        model (`str`): name of the model at the endpoint.
        base_url (`str`, *optional*, defaults to `"https://api.openai.com/v1"`): the endpoint, up to `/v1`.
        api_key_variable (`str`, *optional*, defaults to `"OPENAI_API_KEY"`): environment variable that holds the key.
            Without it, requests go without a key, as a vLLM server takes them.
        options (`dict`, *optional*): further fields of the request, such as `{"temperature": 0}`.
        max_concurrency (`int`, *optional*, defaults to `8`): most requests at a time, for each process.
        max_retries (`int`, *optional*, defaults to `6`): further attempts after a request that failed for now (no
            connection, time-out, a malformed or too long answer, status 408, 409, 425, 429, 5xx).
        timeout (`float`, *optional*, defaults to `120.0`): seconds that a request may take, from the connection to the
            last byte of the reply.
        max_delay (`float`, *optional*, defaults to `60.0`): longest pause between two attempts, in seconds. Pauses
            begin with a second and double, less a random part of up to a half. If the endpoint asks for a longer one
            (`Retry-After`), the request is given up.
        image_format (`str`, *optional*, defaults to `"jpeg"`): how images are sent, `"jpeg"` (quality 90) or `"png"`.
        max_image_size (`int`, *optional*, defaults to `2048`): longest side of an image in pixels; larger ones are
            shrunk.
        cache_dir (`str` or `Path`, *optional*): folder of the replies, which other runs may share. It is asked by
            model, question and settings, whatever the endpoint. Defaults to `trl_mm/replies` in the cache of Hugging
            Face (`HF_HOME`).
        system_prompt (`str`, *optional*): system message in front of each question.
        sleep (`Callable[[float], None]`, *optional*): how to pause; by default a pause that an error elsewhere ends.

    Raises:
        ValueError: an argument is out of range, or there is no key for OpenAI's own endpoint.
    """

    def __init__(
        self,
        model: str,
        base_url: str = OPENAI_URL,
        *,
        api_key_variable: str = "OPENAI_API_KEY",
        options: Mapping[str, Any] | None = None,
        max_concurrency: int = 8,
        max_retries: int = 6,
        timeout: float = 120.0,
        max_delay: float = 60.0,
        image_format: str = "jpeg",
        max_image_size: int = 2048,
        cache_dir: str | os.PathLike | None = None,
        system_prompt: str | None = None,
        sleep: Callable[[float], Any] | None = None,
    ):
        url = _endpoint(base_url, api_key_variable)
        if image_format not in IMAGE_FORMATS:
            raise ValueError(f"`image_format` must be one of {', '.join(IMAGE_FORMATS)}, got {image_format!r}.")
        for name, value, least in (
            ("max_concurrency", max_concurrency, 1),
            ("max_retries", max_retries, 0),
            ("max_image_size", max_image_size, 1),
        ):
            if value < least:
                raise ValueError(f"`{name}` must be at least {least}, got {value}.")
        if timeout <= 0 or max_delay < 0:
            raise ValueError(f"`timeout` must be positive and `max_delay` not negative, got {timeout}, {max_delay}.")
        self.model, self.url = model, f"{str(url).rstrip('/')}/chat/completions"
        self.api_key_variable = api_key_variable
        self.options = options or {}
        self.max_concurrency, self.max_retries = max_concurrency, max_retries
        self.timeout, self.max_delay = timeout, max_delay
        self.image_format, self.max_image_size = image_format, max_image_size
        self.cache = ReplyCache(cache_dir or Path(HF_HOME) / "trl_mm" / "replies")
        self.system = [{"role": "system", "content": system_prompt}] if system_prompt else []
        self.sleep = sleep
        self._has_answered = False
        self._was_reached = False  # by this process: with any status
        if not self._key() and url.host == httpx2.URL(OPENAI_URL).host:
            raise ValueError(f"{base_url} needs a key. Set the environment variable `{api_key_variable}`.")

    def complete(self, questions: Questions) -> list[str | None]:
        """
        Ask all questions.

        Args:
            questions (`list[tuple[str, list[PIL.Image.Image]]]`): texts, and the images that are shown before them.

        Returns:
            `list[str | None]`: what the model writes, `None` where the endpoint takes the model and the key but not
            this question, or always fails on it with status 500 while it answers others; a warning says why.

        Raises:
            JudgeUnavailable: a request failed after all attempts, or nobody is there at the first one. Replies that
                came before are kept.
            ValueError: the endpoint refuses key, model, or all of the questions.
        """
        keys = [self._cache_key(text, images) for text, images in questions]
        replies = {key: self.cache.get(key) for key in keys}
        missing = {key: question for key, question in zip(keys, questions, strict=True) if replies[key] is None}
        self._has_answered |= len(missing) < len(replies)
        refusals = []
        for key, (reply, refusal) in self._ask_all(missing).items():
            replies[key] = reply
            if refusal is not None:
                refusals.append(refusal)
        if refusals and not self._has_answered:
            raise ValueError(f"{refusals[0]} Check that `{self.model}` takes images, and the request's options.")
        if refusals:
            logger.warning("%d of %d questions were refused. The first: %s", len(refusals), len(missing), refusals[0])
        return [replies[key] for key in keys]

    def _ask_all(self, questions: Mapping[str, Question]) -> dict[str, Answer]:
        if not questions:
            return {}
        stop = threading.Event()
        with ThreadPoolExecutor(1) as thread:  # in this one a loop may run already, as in notebooks
            try:
                return thread.submit(asyncio.run, self._ask_together(questions, stop, self._key())).result()
            finally:
                stop.set()

    async def _ask_together(
        self, questions: Mapping[str, Question], stop: threading.Event, api_key: str
    ) -> dict[str, Answer]:
        # For images that are encoded and for pauses, which may be as many as requests
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(self.max_concurrency))
        waiting, answers, errors = iter(questions.items()), {}, []

        async def work(client: httpx2.AsyncClient) -> None:
            for key, question in waiting:
                if stop.is_set():
                    return
                try:
                    answers[key] = await self._ask(client, stop, api_key, key, question)
                except Exception as error:
                    errors.append(error)
                    stop.set()

        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        limits = httpx2.Limits(max_connections=self.max_concurrency)
        async with httpx2.AsyncClient(headers=headers, limits=limits) as client:
            await asyncio.gather(*(work(client) for _ in range(min(self.max_concurrency, len(questions)))))
        if errors:
            raise errors[0]
        return answers

    async def _ask(
        self, client: httpx2.AsyncClient, stop: threading.Event, api_key: str, key: str, question: Question
    ) -> Answer:
        body = await asyncio.to_thread(self._body, *question)
        statuses: set[int | None] = set()  # None for a connection that broke
        told = ""
        for attempt in range(self.max_retries + 1):
            if stop.is_set():
                return None, "stopped"
            least_delay = 0.0
            try:
                status, given, content = await bounded_post(client, self.url, body, self.timeout)
            except httpx2.ConnectError as error:
                if not self._was_reached:
                    # A mistaken address is as good as any in a second: no reason to wait
                    raise JudgeUnavailable(
                        f"{self.url} cannot be reached: {broken(error, api_key)} Check `base_url`, and that the "
                        f"server runs. Replies so far are kept in {self.cache.folder}."
                    ) from None
                statuses.add(None)
                reason = broken(error, api_key) + (f" Before that: {told}" if told else "")
            except (httpx2.RequestError, BadReply) as error:
                statuses.add(0 if isinstance(error, BadReply) else None)
                reason = broken(error, api_key) + (f" Before that: {told}" if told else "")
            else:
                self._was_reached = True
                statuses.add(status)
                said = json_of(content)
                message = message_of(said, content, api_key)
                reason = told = f"{status}: {message}"
                least_delay = retry_after(given)
                if status == 200:
                    reply = reply_of(said)
                    if reply is not None:
                        self.cache.put(key, reply)
                        self._has_answered = True
                        return reply, None
                    reason = f"no chat completion: {message}"
                elif status not in _LATER and status < 500:
                    return None, self._refusal(status, reason, api_key)
            delay = max(least_delay, min(self.max_delay, 2.0**attempt) * random.uniform(0.5, 1))
            if attempt == self.max_retries or delay > self.max_delay:
                break
            await asyncio.to_thread(self.sleep or stop.wait, delay)
        # Some servers have no better answer to a text that spells an image, and would have none tomorrow
        always = 500 in statuses <= {500, None} and attempt == self.max_retries
        if always and self._has_answered and await self._answers_another(client):
            return None, f"{self.url} answered {told}"
        asks = f", and it asks to wait {least_delay:.0f} seconds" if least_delay > self.max_delay else ""
        unknown = told.startswith("500") and not self._has_answered
        raise JudgeUnavailable(
            f"{self.url} did not answer in {attempt + 1} attempts{asks}. The last: {reason} "
            + (f"It has answered nothing yet: check that it serves `{self.model}`. " if unknown else "")
            + f"Replies so far are kept in {self.cache.folder}: run again once it answers."
        )

    async def _answers_another(self, client: httpx2.AsyncClient) -> bool:
        """Whether the endpoint answers another question: then it is one's own fault that it always fails on it."""
        body = self._body("Hello.", [])
        for _ in range(3):  # after a failure some servers close the connection without a word
            try:
                status, _, content = await bounded_post(client, self.url, body, self.timeout)
            except httpx2.RequestError:
                continue
            except BadReply:
                return False
            return status == 200 and reply_of(json_of(content)) is not None
        return False

    def _refusal(self, status: int, reason: str, api_key: str) -> str:
        """Reason why this question alone was refused; raises if no question would be answered."""
        said = f"{self.url} answered {reason}"
        if status in _THIS_QUESTION:
            return said
        cures = {404: "Check `base_url` (it usually ends with /v1) and `model`.", 405: "Check `base_url`."}
        if status in (401, 403):
            there = "is not accepted" if api_key else "is not set"
            cures[status] = f"The key in the environment variable `{self.api_key_variable}` {there}: set a valid one."
        raise ValueError(f"{said} {cures.get(status, 'Check `base_url` and the account behind it.')}")

    def _key(self) -> str:
        key = os.environ.get(self.api_key_variable, "").strip()
        if not (key.isascii() and key.isprintable()):  # the error of the HTTP library would show it
            raise ValueError(f"The environment variable `{self.api_key_variable}` holds something that is no key.")
        return key

    def _cache_key(self, text: str, images: Images) -> str:
        pictures = {"image_format": self.image_format, "max_image_size": self.max_image_size} if images else {}
        system = {"system_prompt": self.system[0]["content"]} if self.system else {}
        return reply_key({"model": self.model, "text": text, "options": self.options, **system, **pictures}, images)

    def _body(self, text: str, images: Images) -> bytes:
        shown = [{"type": "image_url", "image_url": {"url": self._data_url(image)}} for image in images]
        content = [*shown, {"type": "text", "text": text}] if shown else text
        messages = [*self.system, {"role": "user", "content": content}]
        return json.dumps({"model": self.model, "messages": messages, **self.options}).encode()

    def _data_url(self, image: Image.Image) -> str:
        image = image.convert("RGB")
        image.thumbnail((self.max_image_size, self.max_image_size))
        buffer = io.BytesIO()
        image.save(buffer, format=self.image_format, **({"quality": 90} if self.image_format == "jpeg" else {}))
        return f"data:image/{self.image_format};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _endpoint(base_url: str, api_key_variable: str) -> httpx2.URL:
    try:
        url = httpx2.URL(base_url)
    except httpx2.InvalidURL:
        url = httpx2.URL("")
    if url.scheme not in ("http", "https") or not url.host or url.userinfo or url.query:
        # Not shown: it may hold a password
        raise ValueError(
            "`base_url` must look like https://host/v1, without user, password and query. A key belongs in the "
            f"environment variable `{api_key_variable}`."
        )
    return url
