"""The one client of OpenAI-compatible endpoints with images: concurrency, retries, a cache of replies.

The key is read from the environment when requests are made. It is kept nowhere and hidden in what an endpoint says.
"""

import base64
import io
import json
import logging
import os
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx2
from huggingface_hub.constants import HF_HOME

from ..data.protocols import JudgeUnavailable
from .bounded_http import BadReply, BoundedClient
from .endpoint_text import shown, whole_characters
from .reply_cache import ReplyCache, reply_key


logger = logging.getLogger(__name__)

OPENAI_URL = "https://api.openai.com/v1"
IMAGE_FORMATS = ("jpeg", "png")

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
        model,
        base_url=OPENAI_URL,
        *,
        api_key_variable="OPENAI_API_KEY",
        options=None,
        max_concurrency=8,
        max_retries=6,
        timeout=120.0,
        max_delay=60.0,
        image_format="jpeg",
        max_image_size=2048,
        cache_dir=None,
        system_prompt=None,
        sleep=None,
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
        if not self._key() and url.host == httpx2.URL(OPENAI_URL).host:
            raise ValueError(f"{base_url} needs a key. Set the environment variable `{api_key_variable}`.")

    def complete(self, questions):
        """
        Ask all questions.

        Args:
            questions (`list[tuple[str, list[PIL.Image.Image]]]`): texts, and the images that are shown before them.

        Returns:
            `list[str | None]`: what the model writes, `None` where the endpoint takes the model and the key but not
            this question; a warning says why.

        Raises:
            JudgeUnavailable: a request failed after all attempts. Replies that came before are kept.
            ValueError: the endpoint refuses key, model, or all of the questions.
        """
        keys = [self._cache_key(text, images) for text, images in questions]
        replies = {key: self.cache.get(key) for key in keys}
        missing = {key: question for key, question in zip(keys, questions, strict=True) if replies[key] is None}
        self._has_answered |= len(missing) < len(replies)
        refusals = []
        if missing:
            for key, reply, refusal in self._ask_all(missing):
                replies[key] = reply
                if refusal is None:
                    self._has_answered = True
                else:
                    refusals.append(refusal)
        if refusals and not self._has_answered:
            raise ValueError(f"{refusals[0]} Check that `{self.model}` takes images, and the request's options.")
        if refusals:
            logger.warning("%d of %d questions were refused. The first: %s", len(refusals), len(missing), refusals[0])
        return [replies[key] for key in keys]

    def _ask_all(self, questions):
        """Yields key, reply and reason of a refusal (one of which is `None`) as they come."""
        stop, api_key = threading.Event(), self._key()
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        with (
            BoundedClient(headers, self.timeout, self.max_concurrency) as client,
            ThreadPoolExecutor(min(self.max_concurrency, len(questions))) as pool,
        ):
            tasks = [pool.submit(self._ask, client, stop, api_key, key, *questions[key]) for key in questions]
            try:
                for task in as_completed(tasks):
                    yield task.result()
            except BaseException:
                stop.set()
                for task in tasks:
                    task.cancel()
                raise

    def _ask(self, client, stop, api_key, key, text, images):
        messages = [*self.system, self._message(text, images)]
        body = json.dumps({"model": self.model, "messages": messages, **self.options}).encode()
        for attempt in range(self.max_retries + 1):
            if stop.is_set():
                return key, None, "stopped"
            least_delay = 0.0
            try:
                status, given, content = client.post(self.url, body)
            except (httpx2.RequestError, BadReply) as error:
                name = "" if isinstance(error, BadReply) else f"{type(error).__name__}: "
                reason = shown(f"{name}{error}", api_key)
            else:
                said = _json(content)
                message = _message_of(said, content, api_key)
                reason = f"{status}: {message}"
                least_delay = _retry_after(given)
                if status == 200:
                    reply = _content(said)
                    if reply is not None:
                        self.cache.put(key, reply)
                        return key, reply, None
                    reason = f"no chat completion: {message}"
                elif status not in _LATER and status < 500:
                    return key, None, self._refusal(status, reason, api_key)
            delay = max(least_delay, min(self.max_delay, 2.0**attempt) * random.uniform(0.5, 1))
            if attempt == self.max_retries or delay > self.max_delay:
                break
            (self.sleep or stop.wait)(delay)
        asks = f", and it asks to wait {least_delay:.0f} seconds" if least_delay > self.max_delay else ""
        raise JudgeUnavailable(
            f"{self.url} did not answer in {attempt + 1} attempts{asks}. The last: {reason} "
            f"Replies so far are kept in {self.cache.folder}: run again once it answers."
        )

    def _refusal(self, status, reason, api_key):
        """Reason why this question alone was refused; raises if no question would be answered."""
        said = f"{self.url} answered {reason}"
        if status in _THIS_QUESTION:
            return said
        cures = {404: "Check `base_url` (it usually ends with /v1) and `model`.", 405: "Check `base_url`."}
        if status in (401, 403):
            there = "is not accepted" if api_key else "is not set"
            cures[status] = f"The key in the environment variable `{self.api_key_variable}` {there}: set a valid one."
        raise ValueError(f"{said} {cures.get(status, 'Check `base_url` and the account behind it.')}")

    def _key(self):
        key = os.environ.get(self.api_key_variable, "").strip()
        if not (key.isascii() and key.isprintable()):  # the error of the HTTP library would show it
            raise ValueError(f"The environment variable `{self.api_key_variable}` holds something that is no key.")
        return key

    def _cache_key(self, text, images):
        pictures = {"image_format": self.image_format, "max_image_size": self.max_image_size} if images else {}
        system = {"system_prompt": self.system[0]["content"]} if self.system else {}
        return reply_key({"model": self.model, "text": text, "options": self.options, **system, **pictures}, images)

    def _message(self, text, images):
        if not images:
            return {"role": "user", "content": text}
        shown = [{"type": "image_url", "image_url": {"url": self._data_url(image)}} for image in images]
        return {"role": "user", "content": [*shown, {"type": "text", "text": text}]}

    def _data_url(self, image):
        image = image.convert("RGB")
        image.thumbnail((self.max_image_size, self.max_image_size))
        buffer = io.BytesIO()
        image.save(buffer, format=self.image_format, **({"quality": 90} if self.image_format == "jpeg" else {}))
        return f"data:image/{self.image_format};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _endpoint(base_url, api_key_variable):
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


def _json(content):
    """What JSON (`bytes`) says, `None` if it is none or is nested too deeply to be read."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _content(said):
    """What the model wrote (`str`), or `None` if this is no chat completion."""
    try:
        content = said["choices"][0]["message"]["content"]
    except (TypeError, KeyError, IndexError):
        return None
    return "" if content is None else whole_characters(content) if isinstance(content, str) else None


def _message_of(said, content, api_key):
    """Beginning of the message in a reply, which ends with a full stop."""
    error = said.get("error") if isinstance(said, dict) else None
    message = error.get("message") if isinstance(error, dict) else error
    text = message if isinstance(message, str) else content.decode(errors="replace")
    return f"{shown(text, api_key) or 'nothing'}".rstrip(".") + "."


def _retry_after(headers):
    """Seconds that the endpoint asks to wait, 0.0 if it does not."""
    value = headers.get("Retry-After", "")
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError, OSError):  # no date, or one that no clock shows
        return 0.0
