"""What reference log-probabilities depend on, in parts that say why two runs do not share them."""

import hashlib
import json
from contextlib import nullcontext
from importlib.metadata import version

import torch
from accelerate.utils import is_peft_model
from datasets import Image, List
from datasets.fingerprint import Hasher

from ...data.fingerprints import processor_digests, rows_digest
from ...tokens.chat_template import RENDERING, bos_ids, missing_eos
from ...tokens.collator import COLUMNS, PreferenceCollator


FORMAT = 2  # version of how values are computed and kept; those of another one do not fit
_VOLATILE = ("_name_or_path", "transformers_version", "use_cache")  # of a config; they change no log-probability


def reference_key(dataset, reference, processor, collator, **settings):
    """
    Key of the reference log-probabilities of a dataset.

    Args:
        dataset (`datasets.Dataset`): preference rows.
        reference (`str`): digest of the reference model.
        processor ([`~transformers.ProcessorMixin`]): its processor.
        collator (`Callable`): what makes batches of rows.
        **settings: further settings that change the values, as JSON values.

    Returns:
        `dict`: part to digest or value.
    """
    own = type(collator) is not PreferenceCollator
    added = {"begin": bos_ids(processor), "end": missing_eos(processor)}
    return {
        "reference": reference,
        "rows": rows_digest(dataset.cast_column("images", List(Image(decode=False))), COLUMNS),
        "processor": processor_digests(processor),
        "processor_classes": processor_classes(processor),
        "collator": Hasher.hash(collator) if own else None,
        **settings,
        "format": FORMAT,
        "rendering": RENDERING,
        # Values from before these were added do not fit; where none are, nothing has changed
        **{name: tokens for name, tokens in added.items() if tokens},
        # Processors and models of transformers change in patches too; of TRL only the layout of a batch counts
        "transformers": version("transformers"),
        "trl": ".".join(version("trl").split(".")[:2]),
    }


def processor_classes(processor):
    """
    Classes of a processor and its parts, and what they compute with. `save_pretrained` writes one name for an image
    processor on PIL and the one on torchvision, whose pixels differ.

    Args:
        processor ([`~transformers.ProcessorMixin`]): the processor.

    Returns:
        `dict[str, list]`: part to the full name of its class and its backend, `None` where it has none.
    """
    parts = {"processor": processor}
    parts |= {name: getattr(processor, name, None) for name in type(processor).get_attributes()}
    return {
        name: [f"{type(part).__module__}.{type(part).__qualname__}", getattr(part, "backend", None)]
        for name, part in parts.items()
    }


def reference_digest(model):
    """
    Digest of the weights and the settings of a model that is used as reference. Adapters do not count, except one
    named `ref`: TRL switches the others off. Under ZeRO-3 all processes must call this together.

    Args:
        model ([`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]): the reference, not wrapped.

    Returns:
        `str`: digest; the same for a model and for adapters on top of it.
    """
    adapters = dict(model.peft_config) if is_peft_model(model) else {}
    reference = adapters.pop("ref", None)
    config = {"model": _without_volatile(model.config.to_dict()), "ref": reference and reference.to_dict()}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=_as_json).encode())
    tensors = {
        name.removeprefix("base_model.model.").replace(".base_layer.", ".").replace(".original_module.", "."): tensor
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]
        if adapters.keys().isdisjoint(name.split("."))
    }
    for name, tensor in sorted(tensors.items()):
        with _gathered(tensor):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _gathered(tensor):
    if not hasattr(tensor, "ds_id"):
        return nullcontext()
    import deepspeed  # ZeRO-3: every process holds a part

    return deepspeed.zero.GatheredParameters([tensor])


def _without_volatile(config):
    if not isinstance(config, dict):
        return config
    return {name: _without_volatile(value) for name, value in config.items() if name not in _VOLATILE}


def _as_json(value):
    return sorted(value) if isinstance(value, set) else str(value)
