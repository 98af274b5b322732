"""Settings of trainers whose policy writes answers: how fast it writes them, not what."""

from dataclasses import dataclass, field


@dataclass
class AnswerSamplingConfig:
    """
    To be inherited beside a configuration of TRL.

    Args:
        merge_adapters_for_generation (`bool`, *optional*):
            Whether LoRA adapters are part of the weights while the policy writes answers, and are taken out again
            exactly, for which the adapted weights are kept: 13 GB of a 7B in bfloat16, on the GPU if there is room,
            else on the CPU. By default on GPUs. Adapters of other kinds, and those of quantized models, stay as they
            are.
    """

    merge_adapters_for_generation: bool | None = field(
        default=None,
        metadata={"help": "Whether LoRA adapters are merged while answers are sampled; by default on GPUs."},
    )
