"""Adapters folded into the weights while answers are sampled: a token then costs two products fewer in every layer.

What is unusual in it: weights come back bit for bit. Subtracting what was added, as PEFT's `unmerge` does, leaves
rounding errors in bfloat16 at each step, so the weights themselves are kept meanwhile.
"""

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch


logger = logging.getLogger(__name__)

FLOATS = (torch.float32, torch.bfloat16, torch.float16)  # what is no float is quantized
SPARED = 8  # of the memory of a device, one part in so many stays free beside the weights that are kept
PLAN = "_merged_when_generating"  # attribute of a model


@contextmanager
def merged_when_generating(model: Any, wanted: bool | None = None) -> Iterator[None]:
    """
    Context in which the active LoRA adapters of a model are part of its weights, from the first time that it generates
    something until the end of the context. Then the weights are as before, bit for bit, also after an exception.

    Meanwhile the adapted weights are there twice: as they were, and with their adapters. For a 7B with adapters on all
    layers of its language model that is 13 GB in bfloat16, on its device if an eighth of its memory stays free beside
    them; otherwise they wait on the CPU, which costs the time of moving them there and back. Merging rounds the sum of
    weight and adapter to the weight's data type, as `trl-mm merge` and vLLM do, so in bfloat16 a close choice between
    two tokens may turn; in float32 answers are the same.

    Adapters that cannot be merged exactly stay beside their weights, which is said once at level `info`.

    Args:
        model ([`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]): the model, unwrapped, with whole weights.
        wanted (`bool`, *optional*): whether to merge; by default unless the model is on a CPU, where the products that
            are spared take little of a token's time and merging takes longer.
    """
    if not (has_adapters(model) and is_wanted(model, wanted)):
        yield
        return
    plan = MergePlan(model)
    setattr(model, PLAN, plan)
    try:
        yield
    finally:
        delattr(model, PLAN)
        plan.restore()


def merge_as_planned(model: Any) -> None:
    """Merge the adapters of a model that [`merged_when_generating`] holds; others stay as they are."""
    plan = getattr(model, PLAN, None)
    if plan is not None:
        plan.merge()


def merge_for_good(model: Any, wanted: bool | None = None) -> None:
    """
    Merge the active LoRA adapters of a model that will only generate: nothing is kept, and nothing can be unmerged.

    Args:
        model, wanted: as in [`merged_when_generating`].
    """
    if has_adapters(model) and is_wanted(model, wanted):
        for layer in mergeable_layers(model):
            _merge(layer)


def has_adapters(model: Any) -> bool:
    """Whether PEFT has put something into a model (`bool`)."""
    return hasattr(model, "peft_config")


def is_wanted(model: Any, wanted: bool | None) -> bool:
    """Whether to merge (`bool`): as the user says, or by default where it pays."""
    return model.device.type != "cpu" if wanted is None else wanted


class MergePlan:
    """
    Adapters of a model, which are merged once and restored.

    Args:
        model ([`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]): the model.
    """

    def __init__(self, model: Any):
        self.model = model
        self.is_merged = False
        self._kept: list[tuple[Any, torch.Tensor]] = []

    def merge(self) -> None:
        """Merge, if that has not been done yet."""
        if self.is_merged:
            return
        self.is_merged = True
        layers = mergeable_layers(self.model)
        size = sum(layer.get_base_layer().weight.nbytes for layer in layers)
        place = self.model.device if has_room(size, self.model.device) else "cpu"
        for layer in layers:
            # The copy is kept, not the weight: graphs that are captured of decoding want it where it was
            self._kept.append((layer, layer.get_base_layer().weight.data.to(place, copy=True)))
            _merge(layer)

    def restore(self) -> None:
        """Put the weights back."""
        while self._kept:
            layer, kept = self._kept.pop()
            layer.get_base_layer().weight.data.copy_(kept)
            layer.merged_adapters.clear()
        self.is_merged = False


def mergeable_layers(model: Any) -> list[Any]:
    """Layers of a model (`list[peft.tuners.lora.LoraLayer]`) whose active adapters are not merged yet and can be."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    uses = Counter(id(weight) for module in model.modules() for weight in module.parameters(recurse=False))
    found: list[Any] = []
    reasons: Counter[str] = Counter()
    for layer in model.modules():
        if not isinstance(layer, BaseTunerLayer) or layer.disable_adapters or layer.merged:
            continue
        reason = why_not(layer, uses)
        if reason is None:
            found.append(layer)
        else:
            reasons[reason] += 1
    for reason, count in reasons.items():
        _say(f"{count} adapters stay beside their weights while answers are sampled, which is slower: {reason}.")
    return found


def why_not(layer: Any, uses: Counter[int]) -> str | None:
    """
    Reason not to merge a layer (`str`), or `None`.

    Args:
        layer (`peft.tuners.tuners_utils.BaseTunerLayer`): the layer.
        uses (`Counter[int]`): modules that have each weight of the model, by the weight's `id`.
    """
    from peft.tuners.lora import Embedding, Linear

    if type(layer) not in (Linear, Embedding):
        return f"PEFT's {type(layer).__module__.removeprefix('peft.tuners.')}.{type(layer).__name__} is no plain LoRA"
    weight = layer.get_base_layer().weight
    if weight.is_meta or weight.dtype not in FLOATS:
        return "the weights are quantized, or not on a device"
    if layer.lora_variant or any(layer.lora_bias.values()):
        return "they are of a kind, such as DoRA, that is more than a sum"
    if uses[id(weight)] > 1:
        return "another layer has the same weight"
    return None


def has_room(size: int, device: torch.device) -> bool:
    """Whether `size` bytes (`int`) more leave an eighth of the memory of a device free; also where nobody knows."""
    if device.type != "cuda":
        return True
    free, total = torch.cuda.mem_get_info(device)
    reserved = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return free + reserved - size >= total / SPARED


def _merge(layer):
    weight = layer.get_base_layer().weight
    # As the adapter's data type has it: autocast would round the product of its halves to bfloat16
    with torch.no_grad(), torch.autocast(weight.device.type, enabled=False):
        layer.merge()


@cache
def _say(message):
    logger.info(message)
