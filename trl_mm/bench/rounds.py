"""Contenders take turns in one process, so that a noisy machine is noisy for all of them."""

import statistics
import time
from dataclasses import dataclass, field

import torch
from datasets.utils import tqdm


@dataclass
class Rounds:
    """
    What one contender did.

    Attributes:
        seconds (`list[float]`): duration of each round.
        results (`list`): what it returned in each round, those of the warm-up first.
    """

    seconds: list = field(default_factory=list)
    results: list = field(default_factory=list)


def alternate(contenders, rounds, warmup=1):
    """
    Time contenders in turn. Who begins changes from round to round.

    Args:
        contenders (`dict[str, Callable]`): what does one round of work and returns a result.
        rounds (`int`): timed rounds, at least 1.
        warmup (`int`, *optional*, defaults to `1`): rounds before them that are not timed.

    Returns:
        `dict[str, Rounds]`

    Raises:
        ValueError: `rounds` is less than 1.
    """
    if rounds < 1:
        raise ValueError(f"`rounds` must be at least 1, got {rounds}.")
    timed = {name: Rounds() for name in contenders}
    for number in tqdm(range(warmup + rounds), desc="Rounds"):
        names = list(contenders) if number % 2 else list(contenders)[::-1]
        for name in names:
            begin = now()
            timed[name].results.append(contenders[name]())
            if number >= warmup:
                timed[name].seconds.append(now() - begin)
    return timed


def now():
    """Seconds (`float`), after all work on the device is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def speed_ratio(ours, theirs):
    """
    How many times as fast we are.

    Args:
        ours, theirs ([`Rounds`]): rounds of the same work.

    Returns:
        `(float, list[float])`: median of the ratios of single rounds, and the smallest and largest of them.
    """
    ratios = [other / own for own, other in zip(ours.seconds, theirs.seconds, strict=True)]
    return statistics.median(ratios), [min(ratios), max(ratios)]


def matrix_rate(dtype, device, sizes=(1024, 2048, 4096), seconds=0.5):
    """
    Rate of large matrix products on this machine, the measure of how fast a step could be.

    Args:
        dtype (`torch.dtype`): type of the matrices.
        device (`torch.device` or `str`): where they are.
        sizes (`Sequence[int]`, *optional*, defaults to `(1024, 2048, 4096)`): rows and columns that are tried.
        seconds (`float`, *optional*, defaults to `0.5`): how long to measure each.

    Returns:
        `float`: floating-point operations per second of the fastest product.
    """
    best = 0.0
    for size in sizes:
        left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        stop = time.perf_counter() + seconds
        while True:
            begin = now()
            left @ right
            end = now()
            best = max(best, 2 * size**3 / (end - begin))
            if end > stop:
                break
    return best
