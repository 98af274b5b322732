"""A DPO step of ours beside one of TRL's: time, memory, losses, and how far both are from what cannot be avoided."""

import copy
import multiprocessing
import os
import random
import re
import resource
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from datasets import Dataset, Image, List
from peft import LoraConfig
from transformers.trainer_utils import set_seed
from trl import DPOConfig, DPOTrainer

from ..data.lengths import count_tokens
from ..trainer.dpo_config import MMDPOConfig
from ..trainer.dpo_trainer import MMDPOTrainer
from .flops import dpo_step_flops
from .models import QUESTION, WORDS, load
from .rounds import alternate, matrix_rate, speed_ratio


OURS, UNCACHED, TRL = "trl_mm", "uncached", "trl"  # `UNCACHED` is ours with a pass of the reference in every step
WARMUP = 1


def random_rows(settings, processor, num_rows, seed=0):
    """
    Rows of smooth random images and answers of random words.

    Args:
        settings ([`DPOBenchmark`]): image sizes and lengths of answers.
        processor ([`~transformers.ProcessorMixin`]): processor whose tokens are counted.
        num_rows (`int`): how many.
        seed (`int`, *optional*, defaults to `0`): what pixels and words derive from.

    Returns:
        `datasets.Dataset`: rows in the row format.
    """
    draw, pixels = random.Random(seed), np.random.default_rng(seed)

    def answer():
        length, words = draw.randint(min(settings.response_tokens), max(settings.response_tokens)), []
        while len(ids := processor.tokenizer(" ".join(words), add_special_tokens=False)["input_ids"]) < length - 1:
            words += draw.choices(WORDS, k=length - 1 - len(ids))
        return [{"role": "assistant", "content": " ".join(words)}]

    def picture(size):
        width, height = map(int, size.split("x"))
        noise = PIL.Image.fromarray(pixels.integers(0, 256, (16, 16, 3), np.uint8))
        return noise.resize((width, height), PIL.Image.Resampling.BICUBIC)

    question = [{"role": "user", "content": QUESTION}]
    rows = [
        {
            "images": [picture(settings.image_size[number % len(settings.image_size)])],
            "prompt": question,
            "chosen": answer(),
            "rejected": answer(),
        }
        for number in range(num_rows)
    ]
    return Dataset.from_list(rows).cast_column("images", List(Image()))


class TimedReference(MMDPOTrainer):
    """The only change w.r.t. [`MMDPOTrainer`] is that the seconds spent on reference log-probabilities are kept."""

    def _precompute_ref_logps(self, dataset, name, batch_size):
        begin = time.perf_counter()
        result = super()._precompute_ref_logps(dataset, name, batch_size)
        self.reference_seconds = time.perf_counter() - begin
        return result


class Steps:
    """
    A trainer that takes one step at a time: next batch, forward and backward, clipping, optimizer.

    Args:
        trainer ([`~trl.DPOTrainer`]): trainer that has not trained yet.
    """

    def __init__(self, trainer):
        self.trainer = trainer
        trainer.create_optimizer()
        trainer.current_gradient_accumulation_steps = 1
        self.batches = iter(trainer.get_train_dataloader())
        self.model, trainer.optimizer = trainer.accelerator.prepare(trainer.model, trainer.optimizer)
        if trainer.args.gradient_checkpointing:
            trainer.model.gradient_checkpointing_enable(trainer.args.gradient_checkpointing_kwargs)

    def __call__(self):
        """One step. Returns its loss and the norm of its gradient (`(float, float)`)."""
        trainer = self.trainer
        loss = trainer.training_step(self.model, next(self.batches))
        norm = trainer.accelerator.clip_grad_norm_(self.model.parameters(), trainer.args.max_grad_norm)
        trainer.optimizer.step()
        trainer.optimizer.zero_grad()
        return loss.item(), norm.item()


def make_trainer(name, settings, folder):
    """Trainer of one side (`OURS`, `UNCACHED` or `TRL`) on the rows and initial weights that all sides get."""
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    model, processor = load(
        settings.model,
        settings.arch,
        settings.size,
        getattr(torch, settings.dtype),
        settings.attn_implementation,
        device,
    )
    rows = random_rows(settings, processor, settings.batch_size * (settings.rounds + WARMUP))
    shared = {
        "output_dir": folder,
        "per_device_train_batch_size": settings.batch_size,
        "max_length": None,
        "learning_rate": 1e-6,
        "lr_scheduler_type": "constant",
        "bf16": False,
        "gradient_checkpointing": settings.gradient_checkpointing,
        "train_sampling_strategy": "sequential",
        "use_cpu": not on_gpu,
        "report_to": "none",
        "disable_tqdm": True,
    }
    peft_config = None
    if settings.use_peft:
        names = "q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj"
        rank = max(1, model.config.get_text_config().hidden_size // 32)  # 128 for a 7B model, as in the paper
        peft_config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=rf".*language_model.*\.({names})")
    cached = name == OURS and settings.precompute_ref_log_probs
    reference = None if settings.use_peft or cached else copy.deepcopy(model)
    set_seed(0)  # adapters begin alike
    common = {
        "ref_model": reference,
        "train_dataset": rows,
        "processing_class": processor,
        "peft_config": peft_config,
    }
    if name == TRL:
        return DPOTrainer(model, args=DPOConfig(**shared), **common)
    args = MMDPOConfig(
        **shared, check_images=False, precompute_ref_log_probs=cached, ref_log_probs_dir=f"{folder}/reference"
    )
    return TimedReference(model, args=args, **common)


def peak_memory(name, settings):
    """Peak memory of two steps of one side in bytes, measured in a process of its own, Python's not counted."""
    # glibc gives blocks of this size back at once; with its own, moving threshold the peak would be that of its heap
    os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(2**20))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak_memory, (name, settings))


def _peak_memory(name, settings):
    before = _high_water_mark()
    with tempfile.TemporaryDirectory() as folder:
        step = Steps(make_trainer(name, settings, folder))
        for _ in range(min(2, settings.rounds + WARMUP)):
            step()
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else _high_water_mark() - before


def _high_water_mark():
    """Largest resident memory of this process so far, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # what `getrusage` says on Linux, a process inherits from the one that started it
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def compare(settings):
    """
    Run the benchmark.

    Args:
        settings ([`DPOBenchmark`]): what to measure.

    Returns:
        `dict[str, Any]`: `ratio`, `ratio_spread` (speed, ours over TRL's), `memory_ratio` (ours over TRL's),
        `max_loss_difference`, `max_grad_norm_difference` (relative, over all rounds), and for each side
        `pairs_per_second`, `tokens_per_second` (tokens in TRL's layout), `peak_memory` (bytes), `share_of_floor` (the
        seconds that the unavoidable operations would take at the measured rate of a matrix product, over the seconds
        of the step). With `precompute_ref_log_probs` also `reference`: seconds per pair that its log-probabilities
        took before training, seconds per pair that they save in each epoch, and after how many epochs they are earned
        back (negative if never).
    """
    names = [OURS, *([UNCACHED] if settings.precompute_ref_log_probs else []), *([TRL] if settings.vs == TRL else [])]
    memory = {name: peak_memory(name, settings) for name in names} if settings.memory else {}
    result = {}
    with tempfile.TemporaryDirectory() as folder:
        trainers = {name: make_trainer(name, settings, f"{folder}/{name}") for name in names}
        floor = _floor(settings, trainers[OURS])
        rate = matrix_rate(trainers[OURS].model.dtype, trainers[OURS].model.device)
        timed = alternate({name: Steps(trainer) for name, trainer in trainers.items()}, settings.rounds, WARMUP)
        # A machine that others use too shows its rate only now and then
        model = trainers[OURS].model
        floor["matrix_flops_per_second"] = max(rate, matrix_rate(model.dtype, model.device))
        floor["seconds"] = floor["flops"] / floor["matrix_flops_per_second"]
    sides = {}
    for name in names:
        seconds = statistics.median(timed[name].seconds)
        sides[name] = {
            "seconds_per_step": seconds,
            "pairs_per_second": settings.batch_size / seconds,
            "tokens_per_second": floor["tokens"] / seconds,
            "share_of_floor": floor["seconds"] / seconds,
            "losses": [loss for loss, _ in timed[name].results],
            "grad_norms": [norm for _, norm in timed[name].results],
        }
        if name in memory:
            sides[name]["peak_memory"] = memory[name]
    if UNCACHED in names:
        cost = trainers[OURS].reference_seconds / len(trainers[OURS].train_dataset)
        saved = 1 / sides[UNCACHED]["pairs_per_second"] - 1 / sides[OURS]["pairs_per_second"]
        result["reference"] = {"seconds_per_pair": cost, "saved_per_pair": saved, "epochs_to_earn_back": cost / saved}
    if TRL in names:
        ratio, spread = speed_ratio(timed[OURS], timed[TRL])
        result |= {
            "ratio": ratio,
            "ratio_spread": spread,
            "memory_ratio": memory[OURS] / memory[TRL] if memory else None,
            "max_loss_difference": _difference(sides, "losses"),
            "max_grad_norm_difference": _difference(sides, "grad_norms"),
        }
    return {**result, "floor": floor, "sides": sides}


def _difference(sides, name):
    pairs = zip(sides[OURS][name], sides[TRL][name], strict=True)
    return max(abs(ours - theirs) / max(abs(theirs), 1e-12) for ours, theirs in pairs)


def _floor(settings, trainer):
    """Operations that one step costs at least, and the tokens of TRL's layout; means over all rounds."""
    rows, processor = trainer.train_dataset, trainer.processing_class
    counts = count_tokens(rows, processor)
    prompts = counts.prompt.tolist()
    answers = np.stack([counts.chosen, counts.rejected], axis=1).tolist()
    model = trainer.model.get_base_model() if settings.use_peft else trainer.model
    tile = model.config.vision_config.image_size
    patch = (tile // model.config.vision_config.patch_size) ** 2
    images = [image for row in rows for image in row["images"]]
    patches = processor.image_processor(images[: settings.batch_size], return_tensors="pt")["pixel_values"]
    patches = patches.flatten(0, -4).shape[0] * patch
    steps = len(rows) / settings.batch_size
    flops = dpo_step_flops(
        model,
        prompts,
        answers,
        patches * steps,
        trains_all=not settings.use_peft,
        checkpointing=settings.gradient_checkpointing,
        cached_reference=settings.precompute_ref_log_probs,
    )
    tokens = sum(2 * prompt + sum(lengths) for prompt, lengths in zip(prompts, answers, strict=True))
    return {
        "prompt_tokens": [min(prompts), max(prompts)],
        "answer_tokens": [min(map(min, answers)), max(map(max, answers))],
        "tokens": tokens / steps,
        "flops": flops / steps,
    }
