"""How chosen answers are corrupted, and which rewritings are kept."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(kw_only=True)
class CorruptionConfig:
    """
    Settings of [`CorruptionSampler`].

    Args:
        max_attempts (`int`, *optional*, defaults to `3`): attempts per row. After one that is refused the model is
            told why. A row of which none is kept is left out and counted.
        least_length (`float`, *optional*, defaults to `0.6`): least words of a rewriting, as a share of those of the
            chosen answer: what is much shorter has left something out.
        most_length (`float`, *optional*, defaults to `1.6`): most words of a rewriting, as a share of those of the
            chosen answer.
        least_similarity (`float`, *optional*, defaults to `0.4`): a rewriting less similar to the chosen answer than
            this is another answer, and refused.
        most_similarity (`float`, *optional*, defaults to `0.995`): a rewriting more similar to the chosen answer than
            this says the same, and is refused.
        similarity (`str`, *optional*, defaults to `"sentence-transformers/all-mpnet-base-v2"`): id or path of a
            sentence-transformers model, compared by cosine, or `"lexical"` for word overlap where no embedding model
            can be had.
        temperature (`float`, *optional*, defaults to `0.7`): sampling temperature of the text model; 0.0 is greedy
            decoding.
        max_answer_tokens (`int`, *optional*, defaults to `1024`): longest rewriting, in tokens.
        batch_size (`int`, *optional*, defaults to `16`): with a local model, rewritings that go through it together.
        seed (`int`, *optional*, defaults to `0`): what a local model samples derives from it, the row id and the
            attempt.
    """

    max_attempts: int = 3
    least_length: float = 0.6
    most_length: float = 1.6
    least_similarity: float = 0.4
    most_similarity: float = 0.995
    similarity: str = "sentence-transformers/all-mpnet-base-v2"
    temperature: float = 0.7
    max_answer_tokens: int = 1024
    batch_size: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("max_attempts", "max_answer_tokens", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        if self.temperature < 0:
            raise ValueError(f"`temperature` must not be negative, got {self.temperature}.")
        if not 0 <= self.least_length <= 1 <= self.most_length:
            raise ValueError(
                "`least_length` must be in [0, 1] and `most_length` at least 1, got "
                f"{self.least_length} and {self.most_length}."
            )
        if not -1 <= self.least_similarity < self.most_similarity:
            raise ValueError(
                "`least_similarity` must be at least -1 and below `most_similarity`, got "
                f"{self.least_similarity} and {self.most_similarity}."
            )

    def as_settings(self) -> dict[str, Any]:
        """What the pairs depend on (`dict[str, Any]`), for the manifest."""
        return asdict(self)
