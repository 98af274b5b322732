"""A model that is whole in every process, beside one that DeepSpeed spreads over them."""

import contextlib
from collections.abc import Iterator

from transformers.integrations import deepspeed


@contextlib.contextmanager
def in_one_process() -> Iterator[None]:
    """Keeps ZeRO-3, if training has it, from splitting loaded weights and from having `generate` wait for others."""
    config = deepspeed._hf_deepspeed_config_weak_ref and deepspeed._hf_deepspeed_config_weak_ref()
    if config is None:
        yield
        return
    deepspeed.unset_hf_deepspeed_config()
    try:
        yield
    finally:
        deepspeed.set_hf_deepspeed_config(config)
