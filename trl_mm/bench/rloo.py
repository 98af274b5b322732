"""An RLOO step of ours beside one of TRL's: several sampled answers to each prompt, their rewards, the loss."""

import statistics
import tempfile

from transformers import set_seed
from trl import RLOOConfig, RLOOTrainer

from ..generation.completer import image_token_ids
from ..trainer.rloo_config import MMRLOOConfig
from ..trainer.rloo_trainer import MMRLOOTrainer
from .memory import peak_memory
from .online_dpo import sum_of_ids
from .rounds import Rounds, alternate, now, speed_ratio
from .rows import random_prompts
from .steps import (
    OURS,
    TRL,
    WARMUP,
    Steps,
    differences,
    load_model,
    lora,
    parts_table,
    peak,
    span,
    training_arguments,
    versus_trl,
)


def make_trainer(name, settings, folder):
    """Trainer of one side (`OURS` or `TRL`) on the rows and initial weights that both sides get."""
    model, processor = load_model(settings)
    answers = settings.batch_size * settings.num_generations
    arguments = {
        **training_arguments(settings, folder),
        "per_device_train_batch_size": answers,
        "num_generations": settings.num_generations,
        "max_completion_length": settings.new_tokens,
        "shuffle_dataset": False,
        "generation_kwargs": {
            "min_new_tokens": settings.new_tokens,
            "suppress_tokens": image_token_ids(model.config, processor),
        },
    }
    arguments.pop("train_sampling_strategy")  # RLOO has a sampler of its own
    common = {
        "reward_funcs": sum_of_ids,
        "train_dataset": random_prompts(settings.image_size, settings.batch_size * (settings.rounds + WARMUP)),
        "processing_class": processor,
        "peft_config": lora(settings, model),
    }
    set_seed(0)  # adapters begin alike
    if name == TRL:
        return RLOOTrainer(model, args=RLOOConfig(**arguments), **common)
    return MMRLOOTrainer(model, args=MMRLOOConfig(**arguments, max_length=None, check_images=False), **common)


def watch_sampling(trainer):
    """Keep how long a trainer takes to sample, and what it samples ([`Rounds`])."""
    sample, timed = trainer._generate_single_turn, Rounds()

    def watched(*args, **kwargs):
        begin = now()
        result = sample(*args, **kwargs)
        timed.seconds.append(now() - begin)
        timed.results.append(result)
        return result

    trainer._generate_single_turn = watched
    return timed


def replay(name, settings, folder, samples):
    """
    Train with samples that are given.

    Args:
        name (`str`): side.
        settings ([`RLOOBenchmark`]): what to measure.
        folder (`str`): folder for the trainer.
        samples (`list`): what TRL's trainer sampled in each step, as it returns it.

    Returns:
        `(list[float], list[float])`: loss and norm of the gradient of each step.
    """
    trainer, given = make_trainer(name, settings, folder), iter(samples)
    trainer._generate_single_turn = lambda *args, **kwargs: next(given)
    step = Steps(trainer)
    losses, norms = zip(*[step() for _ in samples], strict=True)
    return losses, norms


def measure(settings):
    """
    Run the benchmark.

    Args:
        settings ([`RLOOBenchmark`]): what to measure.

    Returns:
        `dict[str, Any]`: `ratio`, `ratio_spread` (speed, ours over TRL's), `training_ratio` (the same without
        sampling), `memory_ratio` (ours over TRL's), `max_loss_difference` (absolute: the loss of RLOO is about 0) and
        `max_grad_norm_difference` (relative), over all steps, taken once more with the samples of TRL's trainer given
        to both, `prompt_tokens`, and for each side `seconds_per_step`, `sampling_seconds` (of these), `parts` (see
        [`Steps`]; loading has the sampling) and `peak_memory` (bytes).
    """
    names = [OURS, *([TRL] if settings.vs == TRL else [])]
    memory = {name: peak_memory(make_trainer, name, settings) for name in names} if settings.memory else {}
    with tempfile.TemporaryDirectory() as folder:
        trainers = {name: make_trainer(name, settings, f"{folder}/{name}") for name in names}
        prompts = trainers[OURS].fit_report["train"].counts.prompt.tolist()
        sampled = {name: watch_sampling(trainer) for name, trainer in trainers.items()}
        steps = {name: Steps(trainer) for name, trainer in trainers.items()}
        timed = alternate(steps, settings.rounds, WARMUP)
        parts = {name: step.medians() for name, step in steps.items()}
        del trainers, steps
        replayed = {}
        if TRL in names:
            replayed = {name: replay(name, settings, f"{folder}/{name}", sampled[TRL].results) for name in names}
    sides, training = {}, {}
    for name in names:
        sampling = sampled[name].seconds[WARMUP:]
        training[name] = Rounds([all - part for all, part in zip(timed[name].seconds, sampling, strict=True)])
        sides[name] = {
            "seconds_per_step": statistics.median(timed[name].seconds),
            "sampling_seconds": statistics.median(sampling),
            "parts": parts[name],
        }
        if name in memory:
            sides[name]["peak_memory"] = memory[name]
        if name in replayed:
            sides[name]["losses"], sides[name]["grad_norms"] = replayed[name]
    result = {"prompt_tokens": [min(prompts), max(prompts)], "sides": sides}
    if TRL in names:
        result |= differences(sides, timed)
        pairs = zip(sides[OURS]["losses"], sides[TRL]["losses"], strict=True)
        result["max_loss_difference"] = max(abs(ours - theirs) for ours, theirs in pairs)
        result["training_ratio"], _ = speed_ratio(training[OURS], training[TRL])
    return result


def summary(result):
    """The figures as text (`str`): a line per side, and what they differ in."""
    settings = result["settings"]
    lines = [
        f"prompts of {span(result['prompt_tokens'])} tokens, {settings['num_generations']} answers of "
        f"{settings['new_tokens']} to each, {settings['batch_size']} per step",
        f"{'':9}{'s/step':>9}{'sampling':>10}{'peak GB':>9}",
    ]
    for name, side in result["sides"].items():
        lines.append(f"{name:9}{side['seconds_per_step']:9.2f}{side['sampling_seconds']:10.2f}{peak(side):>9}")
    lines += [*parts_table(result["sides"]), *versus_trl(result)]
    if "training_ratio" in result:
        lines.append(f"without sampling it is {result['training_ratio']:.2f}x as fast")
    return "\n".join(lines)
