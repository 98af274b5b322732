"""Which process of how many this is, for commands that share their work out."""

from datetime import timedelta


LONGEST_WAIT = timedelta(days=30)  # for the slowest process, at the end


def process_state():
    """`accelerate.PartialState` of this process: its index, the number of processes, and the device."""
    import torch
    from accelerate import PartialState

    # Without being told, accelerate 1.15 takes every process for the only one on a machine without accelerator
    return PartialState(cpu=not torch.accelerator.is_available(), timeout=LONGEST_WAIT)
