"""How many processes a launch starts: as its config says, but no more than there are GPUs, with the same batch."""

import sys
from typing import Any


BATCHES = "gradient_accumulation_steps"


def fit_launch(
    config: dict[str, Any], flags: dict[str, Any], settings: dict[str, Any], arguments: list[str]
) -> tuple[dict[str, Any], list[str]]:
    """
    Fit a launch to the GPUs of this machine, and say what that changes.

    Args:
        config (`dict[str, Any]`):
            Accelerate's settings.
        flags (`dict[str, Any]`):
            What the user says in place of them.
        settings (`dict[str, Any]`):
            Settings of the command, from recipe and flags.
        arguments (`list[str]`):
            Arguments of the script.

    Returns:
        `(dict[str, Any], list[str])`:
            Flags of the launch and arguments of the script.
    """
    num_gpus = 0 if settings.get("use_cpu") else visible_gpus()
    count = fitting_count(config, flags, num_gpus)
    if count is None or (settings.get("dry_run") and num_gpus == 0):  # a dry run is also for machines without GPU
        return flags, arguments
    batches = accumulation(settings, arguments, config["num_processes"], count)
    print(explanation(settings, config["num_processes"], count, num_gpus, batches), file=sys.stderr)
    more = [] if batches is None else [f"--{BATCHES}", str(batches)]
    return {**flags, "num_processes": count}, [*arguments, *more]


def visible_gpus() -> int:
    """How many GPUs, or other accelerators, this process may use (`int`)."""
    import torch

    return torch.accelerator.device_count() if torch.accelerator.is_available() else 0


def fitting_count(config: dict[str, Any], flags: dict[str, Any], num_gpus: int) -> int | None:
    """
    Processes to start in place of those that an accelerate config asks for.

    Args:
        config (`dict[str, Any]`):
            Accelerate's settings.
        flags (`dict[str, Any]`):
            What the user says in place of them. A number of processes or machines is taken as it is.
        num_gpus (`int`):
            GPUs of this machine that are visible.

    Returns:
        `int`:
            The number, `None` if it stays as the config has it: it is not for one machine, not for GPUs, or fits.
    """
    on_gpus = config.get("distributed_type") in ("MULTI_GPU", "DEEPSPEED", "FSDP") and not config.get("use_cpu")
    machines = flags.get("num_machines", config.get("num_machines", 1))
    if "num_processes" in flags or machines != 1 or not on_gpus:
        return None
    count = max(num_gpus, 1)
    return count if count < config.get("num_processes", 1) else None


def accumulation(settings: dict[str, Any], given: list[str], before: int, after: int) -> int | None:
    """
    Batches to accumulate in a step so that fewer processes make the same step.

    Args:
        settings (`dict[str, Any]`):
            Settings of the command, from recipe and flags.
        given (`list[str]`):
            The flags. What the user says there is taken as it is.
        before (`int`):
            Processes that the recipe counts on.
        after (`int`):
            Processes that start.

    Returns:
        `int`:
            The number, rounded; `None` if the command does not train or the flags give one.
    """
    spellings = (f"--{BATCHES}", f"--{BATCHES.replace('_', '-')}")
    if settings.get(BATCHES) is None or any(word.split("=")[0] in spellings for word in given):
        return None
    return max(round(settings[BATCHES] * before / after), 1)


def explanation(settings: dict[str, Any], before: int, after: int, num_gpus: int, batches: int | None) -> str:
    """What was changed, in a line (`str`)."""
    text = f"GPUs visible: {num_gpus}; processes: {after} in place of {before}"
    if batches is None:
        return f"{text}. `--num_processes` sets another number."
    rows = settings.get("per_device_train_batch_size") or 1
    was, now = settings[BATCHES] * rows * before, batches * rows * after
    same = f"{now} rows in a step as before" if was == now else f"{now} rows in a step in place of {was}"
    return (
        f"{text}, `{BATCHES}`: {batches} in place of {settings[BATCHES]} ({same}). `--num_processes` sets another "
        "number."
    )
