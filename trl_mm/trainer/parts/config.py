"""Settings of every trainer: which parts of a vision-language model train, and how fast."""

from dataclasses import dataclass, field


@dataclass
class TrainedPartsConfig:
    """
    To be inherited beside a configuration of TRL.

    Args:
        projector_learning_rate (`float`, *optional*):
            Learning rate of the projector, which the scheduler scales like `learning_rate`; defaults to
            `learning_rate`. With LoRA it also lets the projector train, as a whole, beside the adapters.
        freeze_vision_tower (`bool`, *optional*, defaults to `False`):
            Whether the vision tower stays as it is. LoRA freezes it anyway, except for adapters that
            `lora_target_modules` puts there, which this refuses.
        freeze_projector (`bool`, *optional*, defaults to `False`):
            Whether the projector stays as it is. With both frozen, image features serve policy and reference.
    """

    projector_learning_rate: float | None = field(
        default=None, metadata={"help": "Learning rate of the projector; with LoRA it also lets the projector train."}
    )
    freeze_vision_tower: bool = field(default=False, metadata={"help": "Whether the vision tower stays as it is."})
    freeze_projector: bool = field(default=False, metadata={"help": "Whether the projector stays as it is."})

    def __post_init__(self):
        if self.projector_learning_rate is not None:
            if self.projector_learning_rate < 0:
                raise ValueError(f"`projector_learning_rate` must be 0 or more, got {self.projector_learning_rate}.")
            if self.freeze_projector:
                raise ValueError(
                    f"`projector_learning_rate={self.projector_learning_rate}` trains the projector, and "
                    "`freeze_projector=True` does not. Leave one of them out."
                )
        super().__post_init__()


def frozen_parts(args):
    """Parts that shall stay as they are, and the setting that says so (`dict[str, str]`)."""
    settings = {"vision tower": "freeze_vision_tower", "projector": "freeze_projector"}
    return {part: setting for part, setting in settings.items() if getattr(args, setting)}
