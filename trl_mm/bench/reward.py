"""
A step of `MMRewardTrainer` beside one of TRL's `RewardTrainer`: time, memory, losses.

What is unusual in it: TRL's trainer leaves images out without a word. Here it gets batches with images from a collator
beside it, a fast one that processes each image once, and the same model. What is left to compare is the step.
"""

import statistics
import tempfile
from dataclasses import replace

import torch
from torch import nn
from transformers import set_seed
from trl import RewardConfig, RewardTrainer

from ..reward.models import REWARD_MODELS
from ..tokens.collator import PreferenceCollator
from ..tokens.lengths import count_tokens
from ..trainer.reward_config import MMRewardConfig
from ..trainer.reward_trainer import MMRewardTrainer
from .memory import peak_memory
from .rounds import alternate
from .rows import random_pairs
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


class SeeingCollator:
    """
    Batches for TRL's `RewardTrainer` that hold the images, once for each answer.

    Args:
        processor ([`~transformers.ProcessorMixin`]): processor of the model.
    """

    def __init__(self, processor):
        self.collator = PreferenceCollator(processor)

    def __call__(self, rows):
        batch = self.collator(rows)
        del batch["completion_mask"]  # which the model does not take
        return batch


def load_reward_model(settings):
    """Reward model with the backbone of a benchmark's settings, and its processor; the same at every call."""
    made, processor = load_model(settings)
    config = made.config
    config.num_labels = 1
    with torch.device("meta"):
        model = REWARD_MODELS[type(config)](config)
    model.model = made.model
    torch.manual_seed(0)
    hidden = config.get_text_config().hidden_size
    model.score = nn.Linear(hidden, 1, bias=False, dtype=made.dtype, device=made.device)
    return model, processor


def make_trainer(name, settings, folder):
    """Trainer of one side (`OURS` or `TRL`) on the rows and initial weights that both get."""
    model, processor = load_reward_model(settings)
    num_rows = settings.batch_size * (settings.rounds + WARMUP)
    rows = random_pairs(settings.image_size, num_rows, settings.response_tokens, processor)
    shared = {**training_arguments(settings, folder), "max_length": None}
    adapters = lora(settings, model)
    adapters = adapters and replace(adapters, task_type="SEQ_CLS")  # with which the score is trained, too
    set_seed(0)  # adapters begin alike
    if name == OURS:
        args = MMRewardConfig(**shared, check_images=False)
        return MMRewardTrainer(model, args=args, train_dataset=rows, processing_class=processor, peft_config=adapters)
    tokenized = [[0]] * num_rows  # so that TRL does not render the texts, without their images; the collator does
    return RewardTrainer(
        model,
        args=RewardConfig(**shared, remove_unused_columns=False),
        data_collator=SeeingCollator(processor),
        train_dataset=rows.add_column("chosen_ids", tokenized).add_column("rejected_ids", tokenized),
        processing_class=processor.tokenizer,
        peft_config=adapters,
    )


def measure(settings):
    """
    Run the benchmark.

    Args:
        settings ([`RewardBenchmark`]): what to measure.

    Returns:
        `dict[str, Any]`: what [`~trl_mm.bench.steps.differences`] returns, `tokens` (`prompt_tokens`, `answer_tokens`,
        and `tokens` of a step in TRL's layout), and for each side `seconds_per_step`, `pairs_per_second`,
        `tokens_per_second`, `peak_memory` (bytes), `losses` and `grad_norms`.
    """
    names = [OURS, *([TRL] if settings.vs == TRL else [])]
    memory = {name: peak_memory(make_trainer, name, settings) for name in names} if settings.memory else {}
    with tempfile.TemporaryDirectory() as folder:
        trainers = {name: make_trainer(name, settings, f"{folder}/{name}") for name in names}
        tokens = _tokens(settings, trainers[OURS])
        timed = alternate({name: Steps(trainer) for name, trainer in trainers.items()}, settings.rounds, WARMUP)
    sides = {}
    for name in names:
        seconds = statistics.median(timed[name].seconds)
        sides[name] = {
            "seconds_per_step": seconds,
            "pairs_per_second": settings.batch_size / seconds,
            "tokens_per_second": tokens["tokens"] / seconds,
            "losses": [loss for loss, _ in timed[name].results],
            "grad_norms": [norm for _, norm in timed[name].results],
        }
        if name in memory:
            sides[name]["peak_memory"] = memory[name]
    compared = differences(sides, timed) if TRL in names else {}
    return {**compared, "tokens": tokens, "sides": sides}


def _tokens(settings, trainer):
    """Lengths of the rows, and the tokens of a step in TRL's layout, a mean over all rounds."""
    counts = count_tokens(trainer.train_dataset, trainer.processing_class)
    prompts, chosen, rejected = counts.prompt, counts.chosen, counts.rejected
    steps = len(trainer.train_dataset) / settings.batch_size
    return {
        "prompt_tokens": [int(min(prompts)), int(max(prompts))],
        "answer_tokens": [int(min(*chosen, *rejected)), int(max(*chosen, *rejected))],
        "tokens": float((2 * prompts + chosen + rejected).sum() / steps),
    }


def summary(result):
    """The figures as text (`str`), a line per side and one for what they differ in."""
    tokens = result["tokens"]
    lines = [
        f"prompt {span(tokens['prompt_tokens'])} tokens, answers {span(tokens['answer_tokens'])}",
        f"{'':9}{'s/step':>9}{'pairs/s':>9}{'tokens/s':>10}{'peak GB':>9}",
    ]
    for name, side in result["sides"].items():
        lines.append(
            f"{name:9}{side['seconds_per_step']:9.2f}{side['pairs_per_second']:9.3f}{side['tokens_per_second']:10.0f}"
            f"{peak(side):>9}"
        )
    return "\n".join([*lines, *versus_trl(result)])
