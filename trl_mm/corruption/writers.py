"""The text models that rewrite: one that is loaded here, or one behind an OpenAI-compatible endpoint."""

from collections.abc import Sequence
from typing import Any

from transformers import GenerationConfig

from ..generation import SamplingSettings
from ..generation.decoding import generating
from ..judges.remote_client import OPENAI_URL, ChatClient
from .config import CorruptionConfig


class LocalWriter:
    """
    A causal language model with a chat template.

    Args:
        model ([`~transformers.PreTrainedModel`]): the model.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]): its tokenizer.
        config ([`CorruptionConfig`]): how it samples.
        system_prompt (`str`, *optional*): system message in front of each text.

    Raises:
        ValueError: the tokenizer has no chat template.
    """

    def __init__(self, model: Any, tokenizer: Any, config: CorruptionConfig, system_prompt: str | None = None):
        if tokenizer.chat_template is None:
            raise ValueError(
                f"The tokenizer of `{model.config.name_or_path}` has no chat template. Name an instruction-tuned text "
                "model."
            )
        self.model, self.tokenizer, self.batch_size = model, tokenizer, config.batch_size
        self.system = [{"role": "system", "content": system_prompt}] if system_prompt else []
        self.settings = SamplingSettings(config.max_answer_tokens, config.temperature)
        self.eos = model.generation_config.eos_token_id or tokenizer.eos_token_id
        self.tokenizer.padding_side = "left"
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token

    def __call__(self, texts: Sequence[str], seeds: Sequence[tuple]) -> list[str | None]:
        replies: list[str | None] = []
        # Rows of like length together: the rest is padding
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        size = self.batch_size
        for batch in (order[start : start + size] for start in range(0, len(order), size)):
            replies += self._batch([texts[index] for index in batch], [seeds[index] for index in batch])
        return [reply for _, reply in sorted(zip(order, replies, strict=True))]

    def _batch(self, texts, seeds):
        inputs = self.tokenizer.apply_chat_template(
            [[*self.system, {"role": "user", "content": text}] for text in texts],
            add_generation_prompt=True,
            padding=True,
            return_tensors="pt",
            return_dict=True,
        ).to(self.model.device)
        config = GenerationConfig(
            max_new_tokens=self.settings.max_new_tokens,
            do_sample=False,  # what samples is among the processors, seeded by row
            eos_token_id=self.eos,
            pad_token_id=self.tokenizer.pad_token_id,
        )
        with generating(self.model):
            sequences = self.model.generate(
                **inputs, generation_config=config, logits_processor=self.settings.processors(seeds)
            )
        return self.tokenizer.batch_decode(sequences[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


class RemoteWriter:
    """
    A model behind an OpenAI-compatible endpoint. Its replies are kept on disk, so that a run that is resumed asks
    nothing twice.

    Args:
        model (`str`): name of the model at the endpoint.
        config ([`CorruptionConfig`]): how it samples. The seed is not sent, as few endpoints take one.
        base_url (`str`, *optional*, defaults to `"https://api.openai.com/v1"`): the endpoint, up to `/v1`.
        options (`dict`, *optional*): further fields of a request beside `temperature` and `max_tokens`, or other
            values of these; `None` leaves a field out.
        **client_settings: further arguments of [`ChatClient`].

    Raises:
        ValueError: an argument is out of range, or there is no key for OpenAI's own endpoint.
    """

    def __init__(
        self,
        model: str,
        config: CorruptionConfig,
        base_url: str = OPENAI_URL,
        *,
        options: dict[str, Any] | None = None,
        **client_settings: Any,
    ):
        options = {"temperature": config.temperature, "max_tokens": config.max_answer_tokens, **(options or {})}
        options = {name: value for name, value in options.items() if value is not None}
        self.client = ChatClient(model, base_url, options=options, **client_settings)

    def __call__(self, texts: Sequence[str], seeds: Sequence[tuple]) -> list[str | None]:
        return self.client.complete([(text, ()) for text in texts])
