"""How long a training would take on a GPU that need not be here: operations of its rows over a measured rate."""

from dataclasses import dataclass

from .flops import dpo_step_flops


@dataclass(frozen=True)
class Rate:
    """
    How fast a GPU trains in bfloat16.

    Args:
        training (`float`): operations per second of whole steps, of those that no layout can avoid.
        source (`str`): where it is from.
    """

    training: float
    source: str


def known_gpu(name):
    """
    The rate of a GPU.

    Args:
        name (`str`): key of `RATES`, in upper or lower case.

    Returns:
        [`Rate`]

    Raises:
        ValueError: nothing is known of it.
    """
    if name.upper() not in RATES:
        raise ValueError(f"`gpu` must be one of {', '.join(RATES)}, got {name!r}.")
    return RATES[name.upper()]


def seconds_per_row(model, counts, patches, shared, checkpointing, trains_all, cached_reference, rate):
    """
    Seconds that one row takes on the mean.

    Args:
        model ([`~transformers.PreTrainedModel`]): model of the LLaVA family, without PEFT around it; may be on the
            meta device.
        counts ([`TokenCounts`]): tokens of the rows.
        patches (`int`): patches of the images of the row with the most image tokens.
        shared (`bool`): whether a prompt and its images are computed once for both answers.
        checkpointing, trains_all, cached_reference (`bool`): as in [`dpo_step_flops`].
        rate ([`Rate`]): rate of the GPU.

    Returns:
        `float`
    """
    prompts, answers = counts.prompt.tolist(), list(zip(counts.chosen.tolist(), counts.rejected.tolist(), strict=True))
    # Patches are in proportion to image tokens, near enough: images take a few hundredths of a step
    patches = patches * counts.image.sum() / max(1, counts.image.max())
    if not shared:
        prompts, answers = prompts * 2, [(length,) for kind in zip(*answers, strict=True) for length in kind]
        patches *= 2
    flops = dpo_step_flops(model, prompts, answers, patches, trains_all, checkpointing, cached_reference)
    return flops / len(counts) / rate.training


def expected_duration(seconds, rows_per_step, rows, num_processes, gpu):
    """
    What a run would take, as text.

    Args:
        seconds (`float`): of one row on one GPU.
        rows_per_step (`int`): rows of a step on one GPU.
        rows (`float`): rows that are trained on, those of several epochs several times, on all GPUs together.
        num_processes (`int`): GPUs.
        gpu (`str`): key of `RATES`.

    Returns:
        `str`
    """
    hours = seconds * rows / num_processes / 3600
    return (
        f"Expected time on {num_processes} x {gpu.upper()}: {seconds * rows_per_step:.2f} s per step, {hours:.1f} "
        f"hours together. {known_gpu(gpu).source} Assumed: loading hides behind computing; bfloat16; without "
        "evaluations, sampling, checkpoints on disk, and what processes say to one another."
    )


# The step of 2 pairs of prompts of 2,936 tokens, 389e12 operations, took 1.25 s (LLaVA-1.6-7B, LoRA, gradient
# checkpointing, torch 2.11, 2026-11-26)
_MEASURED = 389e12 / 1.25
_DENSE = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "A10": 125e12, "L4": 121e12}

# GPU: its rate; of others than the H200 in proportion to the dense bfloat16 rate that NVIDIA publishes
RATES = {
    "H200": Rate(_MEASURED, "From a measured step of a 7B model with LoRA."),
    **{
        name: Rate(
            _MEASURED * dense / _DENSE["H200"],
            f"An estimate, not measured: the rate of an H200 times {dense / _DENSE['H200']:.2f}, by published rates.",
        )
        for name, dense in _DENSE.items()
        if name != "H200"
    },
}
