"""What `trl-mm bench bdhs` measures."""

from dataclasses import dataclass


@dataclass(kw_only=True)
class BDHSBenchmark:
    """
    Settings of a comparison of BDHS with the direct way to write it.

    Args:
        model (`str`, *optional*): id or path of a vision-language model; without it, weights are random, with the
            shapes of `arch` and `size`.
        arch (`str`, *optional*, defaults to `"llava-next"`): architecture of random weights.
        size (`str`, *optional*, defaults to `"small"`): size of random weights: `"tiny"`, `"small"` or `"7b"`.
        image_size (`str`, *optional*, defaults to `"672x672"`): width and height of the images in pixels.
        rows (`int`, *optional*, defaults to `16`): SFT rows per round.
        naive_rows (`int`, *optional*, defaults to `1`): how many of them the direct way gets.
        sentences (`int`, *optional*, defaults to `4`): sentences of each answer, of 12 words.
        max_sentence_tokens (`int`, *optional*, defaults to `16`): longest completion of a sentence, in tokens; random
            weights always write as many.
        mask_threshold (`float`, *optional*, defaults to `0.99`): share of image tokens hidden from the model.
        rounds (`int`, *optional*, defaults to `3`): timed rounds.
        dtype (`str`, *optional*, defaults to `"float32"`): type of the weights.
        attn_implementation (`str`, *optional*, defaults to `"sdpa"`): attention.
    """

    model: str | None = None
    arch: str = "llava-next"
    size: str = "small"
    image_size: str = "672x672"
    rows: int = 16
    naive_rows: int = 1
    sentences: int = 4
    max_sentence_tokens: int = 16
    mask_threshold: float = 0.99
    rounds: int = 3
    dtype: str = "float32"
    attn_implementation: str = "sdpa"

    def __post_init__(self):
        if self.dtype not in ("float32", "bfloat16"):
            raise ValueError(f"`dtype` must be one of float32, bfloat16, got {self.dtype!r}.")
        for name in ("rows", "naive_rows", "sentences", "max_sentence_tokens", "rounds"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        if self.naive_rows > self.rows:
            raise ValueError(f"`naive_rows` ({self.naive_rows}) must be at most `rows` ({self.rows}).")
        width, _, height = self.image_size.partition("x")
        if not (width.isdigit() and height.isdigit() and int(width) and int(height)):
            raise ValueError(f"`image_size` must be like 672x672, got {self.image_size!r}.")
