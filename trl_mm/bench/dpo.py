"""A DPO step of ours beside one of TRL's: time, memory, losses, and how far both are from what cannot be avoided."""

import copy
import statistics
import tempfile
import time

import numpy as np
import torch
from transformers import set_seed
from trl import DPOConfig, DPOTrainer

from ..data.images import with_open_images
from ..tokens.lengths import count_tokens
from ..trainer.dpo_config import MMDPOConfig
from ..trainer.dpo_trainer import MMDPOTrainer
from .flops import dpo_step_flops
from .memory import peak_memory
from .rounds import alternate, matrix_rate
from .shared_rows import ROWS, distinct
from .steps import (
    OURS,
    TRL,
    WARMUP,
    Steps,
    computes_in_bfloat16,
    differences,
    largest_difference,
    load_model,
    lora,
    parts_table,
    peak,
    release,
    span,
    training_arguments,
    versus_trl,
)
from .wall_clock import device_seconds, train_seconds


UNCACHED = "uncached"  # ours with a pass of the reference in every step
FLOAT32 = "float32"  # TRL's without half precision


class TimedReference(MMDPOTrainer):
    """The only change w.r.t. [`MMDPOTrainer`] is that the seconds spent on reference log-probabilities are kept."""

    def _precompute_ref_logps(self, dataset, name, batch_size):
        begin = time.perf_counter()
        result = super()._precompute_ref_logps(dataset, name, batch_size)
        self.reference_seconds = time.perf_counter() - begin
        return result


def make_trainer(name, settings, folder):
    """Trainer of one side (`OURS`, `UNCACHED`, `TRL`, `FLOAT32`) on the rows and initial weights that all get."""
    model, processor = load_model(settings)
    if name == FLOAT32:
        model.float()
    num_rows = settings.batch_size * (settings.rounds + WARMUP)
    cached = name == OURS and settings.precompute_ref_log_probs
    reference = None if settings.use_peft or cached else copy.deepcopy(model)
    shared = {**training_arguments(settings, folder), "max_length": None}
    common = {
        "ref_model": reference,
        "train_dataset": ROWS[settings.rows](settings.image_size, num_rows, settings.response_tokens, processor),
        "processing_class": processor,
        "peft_config": lora(settings, model),
    }
    set_seed(0)  # adapters begin alike
    if name in (TRL, FLOAT32):
        if name == FLOAT32:
            shared["bf16"] = False
        return DPOTrainer(model, args=DPOConfig(**shared), **common)
    args = MMDPOConfig(
        **shared,
        check_images=False,
        precompute_ref_log_probs=cached,
        ref_log_probs_dir=f"{folder}/reference",
        torch_compile=settings.torch_compile,
        use_liger_kernel=settings.use_liger_kernel,
    )
    return TimedReference(model, args=args, **common)


def measure(settings):
    """
    Run the benchmark.

    Args:
        settings ([`DPOBenchmark`]): what to measure.

    Returns:
        `dict[str, Any]`: `ratio`, `ratio_spread` (speed of single steps, ours over TRL's), `wall_ratio` (speed of
        `trainer.train()`), `memory_ratio` (ours over TRL's), `max_loss_difference`, `max_grad_norm_difference`
        (relative, over all rounds), and for each side `pairs_per_second`, `tokens_per_second` (in TRL's layout),
        `parts` (seconds of a step, see [`Steps`]), `device_seconds` (that kernels kept the GPU busy in a step, or
        `None`), `wall_clock` (see [`train_seconds`]), `peak_memory` (bytes), `share_of_floor` (the seconds that the
        unavoidable operations would take at the measured rate of a matrix product, over the seconds of the step), and
        `from_float32` (largest relative distance of its losses from a float32 run). With `precompute_ref_log_probs`
        also `reference`: seconds per pair that its log-probabilities took before training, seconds per pair that they
        save in each epoch, and after how many epochs they are earned back (negative if never).
    """
    names = [OURS, *([UNCACHED] if settings.precompute_ref_log_probs else []), *([TRL] if settings.vs == TRL else [])]
    memory = {name: peak_memory(make_trainer, name, settings) for name in names} if settings.memory else {}
    timed, notes = {}, {}
    for together in [[name] for name in names] if settings.one_at_a_time else [names]:
        rounds, found = _take_steps(together, settings)
        timed |= rounds
        notes |= found
    floor = notes[OURS].pop("floor")
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
            "parts": notes[name]["parts"],
            "device_seconds": notes[name]["device_seconds"],
        }
        if name in memory:
            sides[name]["peak_memory"] = memory[name]
        if settings.wall_clock:
            sides[name]["wall_clock"] = train_seconds(make_trainer, name, settings)
    result = {"bf16": computes_in_bfloat16(settings)}
    if UNCACHED in names:
        cost = notes[OURS]["reference_seconds"] / notes[OURS]["rows"]
        saved = 1 / sides[UNCACHED]["pairs_per_second"] - 1 / sides[OURS]["pairs_per_second"]
        result["reference"] = {"seconds_per_pair": cost, "saved_per_pair": saved, "epochs_to_earn_back": cost / saved}
    if TRL in names:
        result |= differences(sides, timed)
        if settings.wall_clock:
            theirs, ours = (sides[name]["wall_clock"]["seconds_per_step"] for name in (TRL, OURS))
            result["wall_ratio"] = theirs / ours
    if settings.float32_run and (result["bf16"] or settings.dtype == "bfloat16"):
        rounds, _ = _take_steps([FLOAT32], settings)
        wanted = [loss for loss, _ in rounds[FLOAT32].results]
        for name in names:
            sides[name]["from_float32"] = largest_difference(sides[name]["losses"], wanted)
    return {**result, "floor": floor, "sides": sides}


def _take_steps(names, settings):
    """
    Let sides that are in memory together take their steps in turn.

    Returns:
        `(dict[str, Rounds], dict[str, dict])`: their rounds, and what else was found of each: `parts`,
        `device_seconds`, `rows` and `reference_seconds`; of ours `floor`, too.
    """
    with tempfile.TemporaryDirectory() as folder:
        trainers = {name: make_trainer(name, settings, f"{folder}/{name}") for name in names}
        floor, steps = {}, {name: Steps(trainer) for name, trainer in trainers.items()}
        if OURS in names:
            model = trainers[OURS].model
            floor = _floor(settings, trainers[OURS])
            rate = matrix_rate(_computed_in(settings, model), model.device)
        timed = alternate(steps, settings.rounds, WARMUP)
        if OURS in names:
            # A machine that others use too shows its rate only now and then
            floor["matrix_flops_per_second"] = max(rate, matrix_rate(_computed_in(settings, model), model.device))
            floor["seconds"] = floor["flops"] / floor["matrix_flops_per_second"]
            del model
        notes = {
            name: {
                "parts": steps[name].medians(),
                "device_seconds": device_seconds(steps[name].repeat),
                "rows": len(trainer.train_dataset),
                "reference_seconds": getattr(trainer, "reference_seconds", None),
                **({"floor": floor} if name == OURS else {}),
            }
            for name, trainer in trainers.items()
        }
        del trainers, steps
    release()
    return timed, notes


def _computed_in(settings, model):
    return torch.bfloat16 if computes_in_bfloat16(settings) else model.dtype


def _floor(settings, trainer):
    """Operations that one step costs at least, and the tokens of TRL's layout; means over all rounds."""
    rows, processor = trainer.train_dataset, trainer.processing_class
    counts = count_tokens(rows, processor)
    prompts = counts.prompt.tolist()
    answers = np.stack([counts.chosen, counts.rejected], axis=1).tolist()
    model = trainer.model.get_base_model() if settings.use_peft else trainer.model
    tile = model.config.vision_config.image_size
    patch = (tile // model.config.vision_config.patch_size) ** 2
    images = [image for row in rows for image in with_open_images(row)["images"]]
    shown = list({image.tobytes(): image for image in images[: settings.batch_size]}.values())  # each is encoded once
    patches = processor.image_processor(shown, return_tensors="pt")["pixel_values"]
    patches = patches.flatten(0, -4).shape[0] * patch
    steps = len(rows) / settings.batch_size
    flops = dpo_step_flops(
        model,
        *distinct(rows, prompts, answers),
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


def summary(result):
    """The figures as text (`str`): a line per side in each table, and what they differ in."""
    floor, sides = result["floor"], result["sides"]
    lines = [
        f"prompt {span(floor['prompt_tokens'])} tokens, answers {span(floor['answer_tokens'])}; floor "
        f"{floor['flops'] / 1e12:.2f} TFLOP per step, {floor['seconds']:.2f} s at "
        f"{floor['matrix_flops_per_second'] / 1e12:.2f} TFLOP/s; {'bfloat16' if result['bf16'] else 'no'} autocast",
        f"{'':9}{'s/step':>9}{'pairs/s':>9}{'tokens/s':>10}{'of floor':>10}{'peak GB':>9}{'GPU busy':>10}"
        f"{'train()':>9}{'waits':>8}",
    ]
    for name, side in sides.items():
        clock, busy = side.get("wall_clock"), side["device_seconds"]
        lines.append(
            f"{name:9}{side['seconds_per_step']:9.2f}{side['pairs_per_second']:9.3f}{side['tokens_per_second']:10.0f}"
            f"{side['share_of_floor']:10.0%}{peak(side):>9}{'-' if busy is None else f'{busy:.2f}':>10}"
            + (f"{clock['seconds_per_step']:9.2f}{clock['loader_wait']:8.2f}" if clock else f"{'-':>9}{'-':>8}")
        )
    lines += parts_table(sides)
    if "reference" in result:
        reference = result["reference"]
        lines.append(
            f"the reference took {reference['seconds_per_pair']:.2f} s per pair before training and saves "
            f"{reference['saved_per_pair']:.2f} s in each epoch: earned back in {reference['epochs_to_earn_back']:.1f}"
        )
    lines += versus_trl(result)
    if "wall_ratio" in result:
        lines.append(f"trainer.train() of trl_mm, loading included, is {result['wall_ratio']:.2f}x as fast as TRL's")
    if "from_float32" in sides[OURS]:
        distances = ", ".join(f"{name} {side['from_float32']:.1e}" for name, side in sides.items())
        lines.append(f"largest relative distance of losses from a float32 run: {distances}")
    return "\n".join(lines)
