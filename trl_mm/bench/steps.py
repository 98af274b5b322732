"""Trainers that take one step at a time, ours and TRL's with the same settings."""

import torch
from peft import LoraConfig

from .models import load
from .rounds import speed_ratio


OURS, TRL = "trl_mm", "trl"
WARMUP = 1


class Steps:
    """
    A trainer that takes one step at a time: next batch, forward and backward, clipping, optimizer.

    Args:
        trainer ([`~transformers.Trainer`]): trainer that has not trained yet.
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
        "bf16": False,
        "gradient_checkpointing": settings.gradient_checkpointing,
        "train_sampling_strategy": "sequential",
        "use_cpu": not torch.cuda.is_available(),
        "report_to": "none",
        "disable_tqdm": True,
    }


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
    pairs = zip(sides[OURS][name], sides[TRL][name], strict=True)
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


def span(bounds):
    """Smallest and largest number as text (`str`)."""
    low, high = bounds
    return f"{low}" if low == high else f"{low} to {high}"


def peak(side):
    """Peak memory of a side in GB as text (`str`)."""
    return f"{side['peak_memory'] / 1e9:.2f}" if "peak_memory" in side else "-"
