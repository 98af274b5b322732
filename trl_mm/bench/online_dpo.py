"""An online DPO step of ours beside one of TRL's: two sampled answers to each prompt, their rewards, the loss."""

import statistics
import tempfile

import torch
from datasets import Dataset
from transformers import set_seed

from ..generation.completer import image_token_ids
from ..trainer.online_dpo_config import MMOnlineDPOConfig
from ..trainer.online_dpo_trainer import MMOnlineDPOTrainer
from ..trainer.trl_online_dpo import OnlineDPOConfig, OnlineDPOTrainer
from .memory import peak_memory
from .rounds import Rounds, alternate, now
from .rows import random_prompts
from .steps import (
    OURS,
    TRL,
    WARMUP,
    Steps,
    differences,
    load_model,
    lora,
    peak,
    span,
    training_arguments,
    versus_trl,
)


def sum_of_ids(completion_ids, **columns):
    """A reward that costs nothing and prefers one of two answers of equal length."""
    return [float(sum(ids)) for ids in completion_ids]


def make_trainer(name, settings, folder):
    """Trainer of one side (`OURS` or `TRL`) on the rows and initial weights that both sides get."""
    model, processor = load_model(settings)
    rows = random_prompts(settings.image_size, settings.batch_size * (settings.rounds + WARMUP))
    arguments = {
        **training_arguments(settings, folder),
        "max_new_tokens": settings.new_tokens,
        "generation_kwargs": {
            "min_new_tokens": settings.new_tokens,
            # Ours never samples them; TRL's forward pass breaks off at one, which random weights write now and then
            "suppress_tokens": image_token_ids(model.config, processor),
        },
    }
    common = {
        "reward_funcs": sum_of_ids,
        # TRL's trainer looks for images under this name only
        "train_dataset": Dataset.from_list([{"image": row["images"][0], "prompt": row["prompt"]} for row in rows]),
        "processing_class": processor,
        "peft_config": lora(settings, model),
    }
    set_seed(0)  # adapters begin alike
    if name == TRL:
        return OnlineDPOTrainer(model, args=OnlineDPOConfig(**arguments), **common)
    args = MMOnlineDPOConfig(**arguments, max_length=None, check_images=False)
    return MMOnlineDPOTrainer(model, args=args, **common)


def watch_sampling(name, trainer):
    """Keep how long a trainer takes to sample, and what it samples ([`Rounds`])."""
    method, place = {OURS: ("answers", 0), TRL: ("_generate", 2)}[name]
    owner = trainer.sampler if name == OURS else trainer
    sample, timed = getattr(owner, method), Rounds()

    def watched(*args):
        begin = now()
        result = sample(*args)
        timed.seconds.append(now() - begin)
        timed.results.append(result[place])
        return result

    setattr(owner, method, watched)
    return timed


def replay(name, settings, folder, answers):
    """
    Train with answers that are given, not sampled.

    Args:
        name (`str`): side.
        settings ([`OnlineDPOBenchmark`]): what to measure.
        folder (`str`): folder for the trainer.
        answers (`list` of `torch.Tensor` of shape `(2 * batch_size, new_tokens)`): token ids for each step, first
            answers to all prompts and then second ones, as TRL lays them out.

    Returns:
        `(list[float], list[float])`: loss and norm of the gradient of each step.
    """
    trainer, given = make_trainer(name, settings, folder), iter(answers)
    if name == TRL:
        trainer.model.generate = lambda input_ids, **_: torch.cat([input_ids, next(given)], dim=1)
    else:
        trainer.sampler.answers = lambda rows, step: (
            [list(pair) for pair in zip(*(half.tolist() for half in next(given).chunk(2)), strict=True)],
            [None] * len(rows),
        )
    step = Steps(trainer)
    losses, norms = zip(*[step() for _ in answers], strict=True)
    return losses, norms


def measure(settings):
    """
    Run the benchmark.

    Args:
        settings ([`OnlineDPOBenchmark`]): what to measure.

    Returns:
        `dict[str, Any]`: `ratio`, `ratio_spread` (speed, ours over TRL's), `memory_ratio` (ours over TRL's),
        `max_loss_difference`, `max_grad_norm_difference` (relative, over all steps, taken once more with the answers
        that TRL's trainer had sampled given to both), `prompt_tokens`, and for each side `seconds_per_step`,
        `sampling_seconds` (of these), `steps_per_second` and `peak_memory` (bytes).
    """
    names = [OURS, *([TRL] if settings.vs == TRL else [])]
    memory = {name: peak_memory(make_trainer, name, settings) for name in names} if settings.memory else {}
    with tempfile.TemporaryDirectory() as folder:
        trainers = {name: make_trainer(name, settings, f"{folder}/{name}") for name in names}
        prompts = trainers[OURS].fit_report["train"].counts.prompt.tolist()
        sampled = {name: watch_sampling(name, trainer) for name, trainer in trainers.items()}
        timed = alternate({name: Steps(trainer) for name, trainer in trainers.items()}, settings.rounds, WARMUP)
        del trainers
        replayed = {}
        if TRL in names:
            replayed = {name: replay(name, settings, f"{folder}/{name}", sampled[TRL].results) for name in names}
    sides = {}
    for name in names:
        seconds = statistics.median(timed[name].seconds)
        sides[name] = {
            "seconds_per_step": seconds,
            "steps_per_second": 1 / seconds,
            "sampling_seconds": statistics.median(sampled[name].seconds[WARMUP:]),
        }
        if name in memory:
            sides[name]["peak_memory"] = memory[name]
        if name in replayed:
            sides[name]["losses"], sides[name]["grad_norms"] = replayed[name]
    result = {"prompt_tokens": [min(prompts), max(prompts)], "sides": sides}
    if TRL in names:
        result |= differences(sides, timed)
    return result


def summary(result):
    """The figures as text (`str`), a line per side and one for what they differ in."""
    settings = result["settings"]
    lines = [
        f"prompts of {span(result['prompt_tokens'])} tokens, two answers of {settings['new_tokens']} to each, "
        f"{settings['batch_size']} per step",
        f"{'':9}{'s/step':>9}{'sampling':>10}{'steps/s':>9}{'peak GB':>9}",
    ]
    for name, side in result["sides"].items():
        lines.append(
            f"{name:9}{side['seconds_per_step']:9.2f}{side['sampling_seconds']:10.2f}{side['steps_per_second']:9.4f}"
            f"{peak(side):>9}"
        )
    return "\n".join([*lines, *versus_trl(result)])
