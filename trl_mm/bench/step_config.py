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
        attn_implementation (`str`, *optional*, defaults to `"sdpa"`): attention.
        use_peft (`bool`, *optional*, defaults to `False`): whether to train LoRA adapters on the language model (rank
            128 for a 7B model, in proportion for others) instead of all weights.
        gradient_checkpointing (`bool`, *optional*, defaults to `False`): whether activations are computed again in the
            backward pass.
        vs (`str`, *optional*, defaults to `"trl"`): what to compare with: `"trl"`, or `"none"`.
        memory (`bool`, *optional*, defaults to `True`): whether to measure peak memory too, in a process of its own
            for each trainer.
    """

    model: str | None = field(default=None, metadata={"help": "Id or path of a model; random weights without it."})
    arch: str = field(default="llava-next", metadata={"help": "Architecture of random weights."})
    size: str = field(default="small", metadata={"help": "Size of random weights: tiny, small or 7b."})
    image_size: list[str] = field(
        default_factory=lambda: ["672x672"], metadata={"help": "Width and height of the images, taken in turn."}
    )
    batch_size: int = field(default=2, metadata={"help": "Rows per step."})
    rounds: int = field(default=5, metadata={"help": "Timed steps of each trainer."})
    dtype: str = field(default="float32", metadata={"help": "Type of the weights: float32 or bfloat16."})
    attn_implementation: str = field(default="sdpa", metadata={"help": "sdpa, eager, flex_attention, ..."})
    use_peft: bool = field(default=False, metadata={"help": "Whether to train LoRA adapters on the language model."})
    gradient_checkpointing: bool = field(
        default=False, metadata={"help": "Whether activations are computed again in the backward pass."}
    )
    vs: str = field(default="trl", metadata={"help": "What to compare with: trl or none.", "choices": ["trl", "none"]})
    memory: bool = field(default=True, metadata={"help": "Whether to measure peak memory too."})

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
