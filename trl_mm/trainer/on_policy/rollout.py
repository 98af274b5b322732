"""Sampled answers with the prompts that they belong to, each prompt once."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from trl import prepare_multimodal_messages

from ...data.images import with_open_images
from ...data.seeds import derived_seed
from ...generation.prompt_inputs import prompt_inputs


@dataclass
class Rollout:
    """
    Prompts, and which of them each of N samples answers.

    Attributes:
        rows (`list[dict]`): a row with PIL `images` for each prompt.
        prompts (`list[dict[str, torch.Tensor]]`): what the processor makes of each, see [`prompt_inputs`].
        numbers (`list[int]`): the prompt of each sample.
        places (`list[int]`): which of the answers to its prompt each sample is, counted over all processes.
        log_probs (`list[torch.Tensor]`): of shape `(N, T)`, under the sampling policy and, if there is one, under the
            reference, in this order; filled in by the trainer.
        rewards (`torch.Tensor` of shape `(N,)`, *optional*): the weighted sum of all rewards, clipped, before any
            penalty for the KL divergence; NaN where no function gave one. Filled in by the trainer.
    """

    rows: list[dict[str, Any]]
    prompts: list[dict[str, torch.Tensor]]
    numbers: list[int]
    places: list[int]
    log_probs: list[torch.Tensor] = field(default_factory=list)
    rewards: torch.Tensor | None = None

    def of(self, samples: Sequence[int]) -> "Rollout":
        """The rollout (`Rollout`) of some samples, with the same prompts, as those of a step."""
        return Rollout(self.rows, self.prompts, [self.numbers[n] for n in samples], [self.places[n] for n in samples])

    def messages(self) -> list[list[dict[str, Any]]]:
        """The prompt of each sample as reward functions of TRL get it: with images if any prompt has some."""
        prompts = [row["prompt"] for row in self.rows]
        if any(row["images"] for row in self.rows):
            prompts = [prepare_multimodal_messages(row["prompt"], images=row["images"]) for row in self.rows]
        return [prompts[number] for number in self.numbers]

    def columns(self) -> list[dict[str, Any]]:
        """The row of each sample; with `image`, TRL's name for a single one, if each prompt has one."""
        rows = self.rows
        if all(len(row["images"]) == 1 for row in rows):
            rows = [{**row, "image": row["images"][0]} for row in rows]
        return [rows[number] for number in self.numbers]


def new_rollout(examples: Sequence[Mapping[str, Any]], processor: Any, first: int, num_generations: int) -> Rollout:
    """
    The rollout of a batch, before anything is sampled. Each prompt is rendered and its images are processed once.

    Args:
        examples (`list[dict]`): rows of this process, in the order of TRL's `RepeatSampler`: `num_generations` times
            each, the first and the last perhaps in part, where a group is split over processes.
        processor ([`~transformers.ProcessorMixin`]): processor of the model.
        first (`int`): place of the first row among those of all processes.
        num_generations (`int`): answers to each prompt.

    Returns:
        [`Rollout`]
    """
    groups = [(first + number) // num_generations for number in range(len(examples))]
    numbers = [group - groups[0] for group in groups]
    starts = [numbers.index(number) for number in range(numbers[-1] + 1)]
    rows = [with_open_images(dict(examples[start])) for start in starts]
    places = [(first + number) % num_generations for number in range(len(examples))]
    return Rollout(rows, prompt_inputs(processor, rows), numbers, places)


def steps_of(batch: Mapping[str, Any], num_steps: int, seed: tuple) -> list[dict[str, Any]]:
    """
    A rollout's batch in parts of equal size, one for each step, in a random order that keeps answers to one prompt
    together.

    Args:
        batch (`dict`): tensors of shape `(N, ...)`, and the [`Rollout`] under `"rollout"`.
        num_steps (`int`): number of parts.
        seed (`tuple`): what the order derives from.

    Returns:
        `list[dict]`: as `batch`, of `N / num_steps` samples each.
    """
    numbers = batch["rollout"].numbers
    order = list(range(numbers[-1] + 1))
    if num_steps > 1:
        random.Random(derived_seed(*seed)).shuffle(order)
    rank = {number: place for place, number in enumerate(order)}
    samples = sorted(range(len(numbers)), key=lambda sample: rank[numbers[sample]])
    size = len(numbers) // num_steps
    parts = [samples[start : start + size] for start in range(0, size * num_steps, size)]
    return [
        {name: value[part] if torch.is_tensor(value) else value.of(part) for name, value in batch.items()}
        for part in parts
    ]


def whole_groups(numbers: list[int], most: int) -> list[list[int]]:
    """
    Samples in parts that do not tear answers to one prompt apart.

    Args:
        numbers (`list[int]`): the prompt of each sample.
        most (`int`): samples of a part, unless a prompt has more.

    Returns:
        `list[list[int]]`: numbers of the samples of each part, in their order.
    """
    parts: list[list[int]] = []
    start = 0
    while start < len(numbers):
        end = start
        while end < len(numbers):
            stop = end
            while stop < len(numbers) and numbers[stop] == numbers[end]:
                stop += 1
            if end > start and stop - start > most:
                break
            end = stop
        parts.append(list(range(start, end)))
        start = end
    return parts
