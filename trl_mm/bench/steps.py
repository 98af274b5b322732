"""Trainers that take one step at a time, ours and TRL's with the same settings."""

import gc
import statistics

import torch
from peft import LoraConfig

from .models import load
from .rounds import now, speed_ratio


OURS, TRL = "trl_mm", "trl"
WARMUP = 1
PARTS = ("loading", "forward", "backward", "optimizer")


class Steps:
    """
    A trainer that takes one step at a time: next batch, forward and backward, clipping, optimizer.

    Args:
        trainer ([`~transformers.Trainer`]): trainer that has not trained yet.

    Attributes:
        parts (`dict[str, list[float]]`): seconds of each step, for each of `PARTS`. Loading is the wait for the batch
            and what is done to it before the model, the sampling of answers included; forward is the loss, with the
            reference.
    """

    def __init__(self, trainer):
        self.trainer = trainer
        self.parts = {name: [] for name in PARTS}
        trainer.compute_loss = self._timed(trainer.compute_loss, "forward")
        trainer._prepare_inputs = self._timed(trainer._prepare_inputs, "loading")
        trainer.create_optimizer()
        trainer.current_gradient_accumulation_steps = 1
        self.batches = iter(trainer.get_train_dataloader())
        self.model, trainer.optimizer = trainer.accelerator.prepare(trainer.model, trainer.optimizer)
        if trainer.args.gradient_checkpointing:
            trainer.model.gradient_checkpointing_enable(trainer.args.gradient_checkpointing_kwargs)

    def __call__(self):
        """One step. Returns its loss and the norm of its gradient (`(float, float)`)."""
        trainer = self.trainer
        for seconds in self.parts.values():
            seconds.append(0.0)
        begin = now()
        self.batch = batch = next(self.batches)
        loaded = now()
        self.parts["loading"][-1] += loaded - begin
        before = self.parts["loading"][-1]
        loss = trainer.training_step(self.model, batch, None)
        trained = now()
        inside = self.parts["loading"][-1] - before + self.parts["forward"][-1]
        self.parts["backward"][-1] = trained - loaded - inside
        norm = trainer.accelerator.clip_grad_norm_(self.model.parameters(), trainer.args.max_grad_norm)
        trainer.optimizer.step()
        trainer.optimizer.zero_grad()
        self.parts["optimizer"][-1] = now() - trained
        return loss.item(), norm.item()

    def repeat(self):
        """Forward and backward of the last batch once more, not counted; there are no more gradients afterwards."""
        kept = {name: list(seconds) for name, seconds in self.parts.items()}
        self.trainer.training_step(self.model, self.batch, None)
        self.trainer.optimizer.zero_grad()
        self.parts = kept

    def medians(self):
        """Seconds of each part (`dict[str, float]`), the warm-up left out."""
        return {name: statistics.median(seconds[WARMUP:]) for name, seconds in self.parts.items()}

    def _timed(self, method, part):
        def timed(*args, **kwargs):
            begin = now()
            result = method(*args, **kwargs)
            self.parts[part][-1] += now() - begin
            return result

        return timed


def release():
    """Give memory of what nothing refers to any more back, also that of cycles and that which torch keeps."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def load_model(settings):
    """Model, on the device that is measured, and processor of a benchmark's settings; the same at every call."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = getattr(torch, settings.dtype)
    model, processor = load(settings.model, settings.arch, settings.size, dtype, settings.attn_implementation, device)
    return model.to(device), processor


def training_arguments(settings, folder):
    """Arguments of [`~transformers.TrainingArguments`] that all sides get (`dict[str, Any]`)."""
    return {
        "output_dir": folder,
        "per_device_train_batch_size": settings.batch_size,
        "learning_rate": 1e-6,
        "lr_scheduler_type": "constant",
        "bf16": computes_in_bfloat16(settings),
        "gradient_checkpointing": settings.gradient_checkpointing,
        "train_sampling_strategy": "sequential",
        "use_cpu": not torch.cuda.is_available(),
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


def computes_in_bfloat16(settings):
    """Whether trainers compute in bfloat16 (`bool`): as the settings say, or where the device has it."""
    if settings.bf16 is not None:
        return settings.bf16
    return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)


def lora(settings, model):
    """Adapters on the language model ([`~peft.LoraConfig`]), or `None` if all weights are trained."""
    if not settings.use_peft:
        return None
    names = "q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj"
    rank = max(1, model.config.get_text_config().hidden_size // 32)  # 128 for a 7B model, as in the paper
    return LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=rf".*language_model.*\.({names})")


def differences(sides, timed):
    """
    Ours over TRL's.

    Args:
        sides (`dict[str, dict]`): `losses` and `grad_norms` of the steps of each side, and `peak_memory` if measured.
        timed (`dict[str, Rounds]`): its rounds.

    Returns:
        `dict[str, Any]`: `ratio` and `ratio_spread` (speed), `memory_ratio` (or `None`), `max_loss_difference` and
        `max_grad_norm_difference` (relative).
    """
    ratio, spread = speed_ratio(timed[OURS], timed[TRL])
    memory = [sides[name].get("peak_memory") for name in (OURS, TRL)]
    return {
        "ratio": ratio,
        "ratio_spread": spread,
        "memory_ratio": None if None in memory else memory[0] / memory[1],
        "max_loss_difference": _difference(sides, "losses"),
        "max_grad_norm_difference": _difference(sides, "grad_norms"),
    }


def _difference(sides, name):
    return largest_difference(sides[OURS][name], sides[TRL][name])


def largest_difference(found, wanted):
    """Largest difference of numbers from others, relative to these (`float`)."""
    pairs = zip(found, wanted, strict=True)
    return max(abs(ours - theirs) / max(abs(theirs), 1e-12) for ours, theirs in pairs)


def versus_trl(result):
    """What ours and TRL's differ in (`list[str]`): one line, or none if there was no comparison."""
    if "ratio" not in result:
        return []
    low, high = result["ratio_spread"]
    memory = f", {result['memory_ratio']:.2f}x the memory" if result["memory_ratio"] is not None else ""
    return [
        f"trl_mm is {result['ratio']:.2f}x as fast as TRL [{low:.2f}, {high:.2f}]{memory}; largest relative "
        f"difference of losses {result['max_loss_difference']:.1e}, of gradient norms "
        f"{result['max_grad_norm_difference']:.1e}"
    ]


def parts_table(sides):
    """Where the seconds of a step go, with the device waited for after each part (`list[str]`): a line per side."""
    lines = [f"{'':9}" + "".join(f"{name:>11}" for name in PARTS) + "   s"]
    for name, side in sides.items():
        lines.append(f"{name:9}" + "".join(f"{side['parts'][part]:11.2f}" for part in PARTS))
    return lines


def span(bounds):
    """Smallest and largest number as text (`str`)."""
    low, high = bounds
    return f"{low}" if low == high else f"{low} to {high}"


def peak(side):
    """Peak memory of a side in GB as text (`str`)."""
    return f"{side['peak_memory'] / 1e9:.2f}" if "peak_memory" in side else "-"
