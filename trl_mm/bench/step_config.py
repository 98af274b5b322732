"""What the benchmarks of training steps have in common."""

from dataclasses import dataclass, field


@dataclass(kw_only=True)
class StepBenchmark:
    """
    Settings of a comparison of training steps.

    Args:
        model (`str`, *optional*): id or path of a vision-language model; without it, weights are random, with the
            shapes of `arch` and `size`.
        arch (`str`, *optional*, defaults to `"llava-next"`): architecture of random weights.
        size (`str`, *optional*, defaults to `"small"`): size of random weights: `"tiny"`, `"small"` or `"7b"`.
        image_size (`list[str]`, *optional*, defaults to `["672x672"]`): width and height of the images in pixels; rows
            take the sizes in turn.
        batch_size (`int`, *optional*, defaults to `2`): rows per step.
        rounds (`int`, *optional*, defaults to `5`): timed steps of each trainer.
        dtype (`str`, *optional*, defaults to `"float32"`): type of the weights.
        bf16 (`bool`, *optional*): whether to compute in bfloat16 (autocast). Defaults to yes, as in TRL, on a GPU that
            has it, and to no elsewhere.
        attn_implementation (`str`, *optional*, defaults to `"sdpa"`): attention.
        use_peft (`bool`, *optional*, defaults to `False`): whether to train LoRA adapters on the language model (rank
            128 for a 7B model, in proportion for others) instead of all weights.
        gradient_checkpointing (`bool`, *optional*, defaults to `True`): whether activations are computed again in the
            backward pass. TRL's default.
        vs (`str`, *optional*, defaults to `"trl"`): what to compare with: `"trl"`, or `"none"`.
        memory (`bool`, *optional*, defaults to `True`): whether to measure peak memory too, in a process of its own
            for each trainer.
    """

    model: str | None = None
    arch: str = "llava-next"
    size: str = "small"
    image_size: list[str] = field(default_factory=lambda: ["672x672"])
    batch_size: int = 2
    rounds: int = 5
    dtype: str = "float32"
    bf16: bool | None = None
    attn_implementation: str = "sdpa"
    use_peft: bool = False
    gradient_checkpointing: bool = True
    vs: str = field(default="trl", metadata={"choices": ["trl", "none"]})
    memory: bool = True

    def __post_init__(self):
        for name, known in {"vs": ("trl", "none"), "dtype": ("float32", "bfloat16")}.items():
            if getattr(self, name) not in known:
                raise ValueError(f"`{name}` must be one of {', '.join(known)}, got {getattr(self, name)!r}.")
        for name in ("batch_size", "rounds"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        for size in self.image_size:
            width, _, height = size.partition("x")
            if not (width.isdigit() and height.isdigit() and int(width) and int(height)):
                raise ValueError(f"`image_size` must be like 672x672, got {size!r}.")
