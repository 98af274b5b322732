"""A judge behind an OpenAI-compatible endpoint: a vLLM server, or a hosted model."""

from collections.abc import Mapping
from typing import Any

from .annotator import Annotator
from .prompts import Questions
from .remote_client import OPENAI_URL, ChatClient


class RemoteJudge(Annotator):
    """
    Has a model behind an OpenAI-compatible endpoint compare two answers, in both orders or once.

    Replies are kept on disk, so that a run that is resumed asks nothing twice. The key comes from the environment.

    Args:
        model (`str`): name of the model at the endpoint.
        base_url (`str`, *optional*, defaults to `"https://api.openai.com/v1"`): the endpoint, up to `/v1`.
        style (`str`, *optional*, defaults to `"both_orders"`): `"both_orders"` asks about each pair twice, each answer
            once in front, and counts only what is said both times; `"paper"` asks once, in a random order, for one of
            the two, as arXiv 2407.02477 does.
        seed (`int`, *optional*, defaults to `0`): what the order in `"paper"` derives from, together with the pair.
        max_new_tokens (`int`, *optional*, defaults to `128`): longest reply, in tokens.
        options (`dict`, *optional*): further fields of a request beside `temperature` (0) and `max_tokens`, or other
            values of these; `None` leaves a field out: `{"max_tokens": None, "max_completion_tokens": 1000}`.
        **client_settings: further arguments of [`ChatClient`], such as `api_key_variable`, `max_concurrency`,
            `max_retries`, `timeout`, `image_format`, `max_image_size`, `cache_dir` and `system_prompt`.

    Raises:
        ValueError: an argument is out of range, or there is no key for OpenAI's own endpoint.

    Its methods raise what [`ChatClient.complete`] raises.
    """

    def __init__(
        self,
        model: str,
        base_url: str = OPENAI_URL,
        *,
        style: str = "both_orders",
        seed: int = 0,
        max_new_tokens: int = 128,
        options: Mapping[str, Any] | None = None,
        **client_settings: Any,
    ):
        super().__init__(style, seed, max_new_tokens)
        options = {"temperature": 0, "max_tokens": max_new_tokens, **(options or {})}
        options = {name: value for name, value in options.items() if value is not None}
        self.client = ChatClient(model, base_url, options=options, **client_settings)

    def _ask(self, questions: Questions) -> list[str | None]:
        return self.client.complete(questions)
