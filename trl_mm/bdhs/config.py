"""Settings of BDHS, in the order in which Algorithm 1 needs them."""

from dataclasses import dataclass


@dataclass
class BDHSConfig:
    """
    Settings of Bias-Driven Hallucination Sampling (arXiv 2407.02477, Section 4 and Algorithm 1).

    Args:
        mask_threshold (`float`, *optional*, defaults to `0.99`):
            Share of image tokens hidden from the model; ρ_th in the paper (eq. 6). 0.0 hides nothing, 1.0 everything.
            LLaVA-1.6 has 1,176 to 2,928 image tokens; a model with few needs a lower value. Tune it by the share of
            answers that must be made again.
        positions (`str`, *optional*, defaults to `"collapsed"`):
            Positions of what stays visible: `"collapsed"` closes the gaps that hidden tokens leave, as a 2-D attention
            mask in `generate` does; `"original"` keeps every token where it was. Not said in the paper.
        max_attempts (`int`, *optional*, defaults to `5`):
            Attempts per row. The last of several is made without guidance and kept unchecked. With 1, the one attempt
            is guided and kept.
        similarity_threshold (`float`, *optional*, defaults to `0.97`):
            A rejected answer is accepted if its similarity to the chosen one is below this.
        similarity (`str` or `Callable`, *optional*, defaults to `"sentence-transformers/all-mpnet-base-v2"`):
            Id or path of a sentence-transformers model, compared by cosine; `"lexical"` for word overlap where no
            embedding model can be had; or a function of two lists of texts that returns a list of similarities.
        swap_probability (`float`, *optional*, defaults to `0.5`):
            Probability with which a sentence that begins with yes or no has that word swapped before it is cut.
        cut_before_first_word (`bool`, *optional*, defaults to `True`):
            Whether a cut may leave nothing of a sentence. Not said in the paper.
        language (`str`, *optional*, defaults to `"en"`):
            Language code for the sentence splitter.
        temperature (`float`, *optional*, defaults to `1.0`):
            Sampling temperature; 0.0 is greedy decoding. Not said in the paper.
        top_p (`float`, *optional*, defaults to `1.0`):
            Share of probability mass that is sampled from. Not said in the paper.
        max_sentence_tokens (`int`, *optional*, defaults to `64`):
            Longest completion of a sentence, in tokens.
        max_answer_tokens (`int`, *optional*, defaults to `512`):
            Longest unguided answer, in tokens.
        batch_size (`int`, *optional*, defaults to `64`):
            Completions that go through the model together.
        seed (`int`, *optional*, defaults to `0`):
            Masks, cuts and samples derive from it, the row id and the attempt.
    """

    mask_threshold: float = 0.99
    positions: str = "collapsed"
    max_attempts: int = 5
    similarity_threshold: float = 0.97
    similarity: str = "sentence-transformers/all-mpnet-base-v2"
    swap_probability: float = 0.5
    cut_before_first_word: bool = True
    language: str = "en"
    temperature: float = 1.0
    top_p: float = 1.0
    max_sentence_tokens: int = 64
    max_answer_tokens: int = 512
    batch_size: int = 64
    seed: int = 0

    def __post_init__(self):
        for name in ("mask_threshold", "swap_probability", "top_p"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"`{name}` must be in [0, 1], got {value}.")
        for name in ("max_attempts", "max_sentence_tokens", "max_answer_tokens", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        if self.temperature < 0:
            raise ValueError(f"`temperature` must not be negative, got {self.temperature}.")
        if self.positions not in ("collapsed", "original"):
            raise ValueError(f"`positions` must be 'collapsed' or 'original', got {self.positions!r}.")
