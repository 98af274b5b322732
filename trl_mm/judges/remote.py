"""A judge behind an OpenAI-compatible endpoint: a vLLM server, or a hosted model."""

from .prompts import ask_in_style
from .remote_client import OPENAI_URL, ChatClient
from .wording import check_style


class RemoteJudge:
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
    """

    def __init__(
        self,
        model,
        base_url=OPENAI_URL,
        *,
        style="both_orders",
        seed=0,
        max_new_tokens=128,
        options=None,
        **client_settings,
    ):
        check_style(style)
        if max_new_tokens < 16:
            raise ValueError(f"`max_new_tokens` must be at least 16, to hold a verdict, got {max_new_tokens}.")
        options = {"temperature": 0, "max_tokens": max_new_tokens, **(options or {})}
        options = {name: value for name, value in options.items() if value is not None}
        self.style, self.seed = style, seed
        self.client = ChatClient(model, base_url, options=options, **client_settings)

    def judge(self, prompts, images, answer_pairs):
        """As in [`PairwiseJudge`]; raises what [`ChatClient.complete`] raises."""
        return [verdict.choice for verdict in self.verdicts(prompts, images, answer_pairs)]

    def verdicts(self, prompts, images, answer_pairs):
        """Verdicts (`list[Verdict]`) with the replies as text; arguments as in [`PairwiseJudge`]."""
        return ask_in_style(self.style, self.seed, self.client.complete, prompts, images, answer_pairs)
