"""How a launch spreads a model over processes, read from an accelerate configuration without launching anything."""

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Sharding:
    """
    What each process holds.

    Attributes:
        num_processes (`int`, *optional*, defaults to `1`): processes on all machines, one GPU each.
        deepspeed (`bool`, *optional*, defaults to `False`): whether DeepSpeed trains.
        zero_stage (`int`, *optional*, defaults to `0`): what is split: nothing; with 1 the optimizer's states; with 2
            gradients as well; with 3 weights as well, which FSDP does too.
        offload_optimizer (`bool`, *optional*, defaults to `False`): whether the optimizer's states are in CPU memory.
        offload_weights (`bool`, *optional*, defaults to `False`): whether split weights are in CPU memory.
        mixed_precision (`str`, *optional*, defaults to `"no"`): `"no"`, `"bf16"` or `"fp16"`.
    """

    num_processes: int = 1
    deepspeed: bool = False
    zero_stage: int = 0
    offload_optimizer: bool = False
    offload_weights: bool = False
    mixed_precision: str = "no"

    def __str__(self):
        if self.num_processes == 1 and not self.deepspeed:
            return f"one process, mixed precision {self.mixed_precision}"
        kind = f"ZeRO-{self.zero_stage}" if self.deepspeed else "FSDP" if self.zero_stage == 3 else "DDP"
        offloaded = {"optimizer": self.offload_optimizer, "weights": self.offload_weights}
        names = " and ".join(name for name, is_offloaded in offloaded.items() if is_offloaded)
        offload = f", {names} in CPU memory" if names else ""
        return f"{kind} on {self.num_processes} processes{offload}, mixed precision {self.mixed_precision}"

    def over(self, stage):
        """Processes (`int`) that what this ZeRO stage splits is spread over."""
        return self.num_processes if self.zero_stage >= stage else 1


def read_sharding(settings, args):
    """
    Read an accelerate configuration.

    Args:
        settings (`dict[str, Any]`): accelerate's YAML; empty for a single process.
        args ([`~transformers.TrainingArguments`]): training arguments, whose `bf16` and `fp16` come first.

    Returns:
        [`Sharding`]
    """
    kind = str(settings.get("distributed_type", "NO")).upper()
    processes = 1 if kind == "NO" else int(settings.get("num_processes") or 1)
    precision = "fp16" if args.fp16 else "bf16" if args.bf16 else str(settings.get("mixed_precision") or "no")
    if kind == "FSDP":
        fsdp = settings.get("fsdp_config") or {}
        offload = bool(fsdp.get("fsdp_offload_params"))
        return Sharding(processes, False, 3, offload, offload, precision)
    if kind != "DEEPSPEED":
        return Sharding(processes, mixed_precision=precision)
    zero = settings.get("deepspeed_config") or {}
    if "deepspeed_config_file" in zero:
        own = json.loads(Path(zero["deepspeed_config_file"]).read_text(encoding="utf-8")).get("zero_optimization", {})
        zero = {
            "zero_stage": own.get("stage", 0),
            **{
                f"{name}_device": (own.get(name) or {}).get("device")
                for name in ("offload_optimizer", "offload_param")
            },
        }
    stage = int(zero.get("zero_stage", 2))
    offloaded = {
        name: zero.get(f"{name}_device") not in (None, "none") for name in ("offload_optimizer", "offload_param")
    }
    return Sharding(
        processes, True, stage, offloaded["offload_optimizer"], stage == 3 and offloaded["offload_param"], precision
    )
