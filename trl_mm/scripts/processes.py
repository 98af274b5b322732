"""Which process of how many this is, for commands that share their work out."""

from datetime import timedelta

from ..data.partners import partners_of


__all__ = ["partners_of", "process_state"]


def process_state(timeout=600.0):
    """`accelerate.PartialState` of this process, whose collective operations wait for `timeout` seconds."""
    import torch
    from accelerate import PartialState

    # Without being told, accelerate 1.15 takes every process for the only one on a machine without accelerator
    return PartialState(cpu=not torch.accelerator.is_available(), timeout=timedelta(seconds=timeout))
