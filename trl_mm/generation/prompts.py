"""What a model is asked: a row as it reads it, and a completion to be written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch


@dataclass
class Prompt:
    """
    A row as the model reads it.

    Attributes:
        row (`dict`): the row; its `images` are PIL images.
        text (`str`): rendered prompt.
        lead (`str`): what the chat template puts between prompt and answer.
        answer (`str`): answer of the row, or `""`.
        ids (`torch.Tensor` of shape `(prompt_length,)`): token ids, image placeholders expanded.
        is_image (`torch.Tensor` of shape `(prompt_length,)`): `True` where a token is an image token.
        kept (`torch.Tensor` of shape `(num_image_tokens,)`, *optional*): image tokens that some request will show.
            Their features are computed once and kept with the prompt; without it, they are computed for every batch.
        features (`torch.Tensor` of shape `(kept.sum(), hidden_size)`, *optional*): features that are kept.
    """

    row: Mapping[str, Any]
    text: str
    lead: str
    answer: str
    ids: torch.Tensor
    is_image: torch.Tensor
    kept: torch.Tensor | None = None
    features: torch.Tensor | None = field(default=None, repr=False)

    @property
    def num_image_tokens(self) -> int:
        return int(self.is_image.sum())

    def showing(self, images: Sequence[Any]) -> "Prompt":
        """This prompt with other images of the same sizes, which take the same tokens."""
        return replace(self, row={**self.row, "images": images}, kept=None, features=None)


@dataclass
class Request:
    """
    One completion to be written.

    Attributes:
        prompt ([`Prompt`]): what comes before the answer.
        prefix (`str`): beginning of the answer that is given, as rendered after the prompt.
        seed (`tuple`): what the sampling derives from, such as (seed, row id, attempt).
        visible (`torch.Tensor` of shape `(num_image_tokens,)`, *optional*): image tokens that the model sees; `None`
            shows them all.
    """

    prompt: Prompt
    prefix: str = ""
    seed: tuple = ()
    visible: torch.Tensor | None = field(default=None, repr=False)

    @property
    def prompt_length(self) -> int:
        """Tokens of the prompt that the model sees."""
        hidden = 0 if self.visible is None else int((~self.visible).sum())
        return len(self.prompt.ids) - hidden
