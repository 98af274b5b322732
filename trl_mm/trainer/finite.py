"""Training stops at the first number that is none. transformers would leave it out of the logged loss and go on."""

from contextlib import contextmanager

import torch


# Raised here with a text for users; the command shows it without a traceback
class NotFiniteError(ValueError):
    """A loss, a gradient or a weight is NaN or infinite."""


def check_gradients(trainer, norm):
    """
    Refuse a norm of the gradients that is not finite, before the optimizer takes it into the weights. It is that of
    all processes, so all of them stop. With a scaled loss (fp16) such steps are skipped, and the logged loss decides.

    Args:
        trainer ([`~transformers.Trainer`]): the trainer.
        norm (`float` or `torch.Tensor`, *optional*): the norm.
    """
    if norm is None or trainer.args.fp16:
        return
    if not torch.as_tensor(norm).isfinite().item():
        raise NotFiniteError(_message(trainer, f"The norm of the gradients of step {_step(trainer)} is {float(norm)}"))


def check_loss(trainer, logs):
    """Refuse a logged loss, which is the mean of all processes, that is not finite."""
    loss = logs.get("loss")
    if loss is not None and not torch.as_tensor(loss).isfinite().item():
        raise NotFiniteError(_message(trainer, f"The loss up to step {trainer.state.global_step} is {loss}"))


def check_evaluation(trainer, metrics, name):
    """
    Refuse a loss of an evaluation, which is the mean over rows of all processes, that is not finite: it would be kept
    for the best one, or shown on a card.

    Args:
        trainer ([`~transformers.Trainer`]): the trainer.
        metrics (`dict`): metrics of the evaluation.
        name (`str`): name of its loss.
    """
    loss = metrics.get(name)
    if loss is not None and not torch.as_tensor(loss).isfinite().item():
        what = f"`{name}` after step {trainer.state.global_step} is {loss}"
        raise NotFiniteError(_message(trainer, what, "training stops" if trainer.is_in_train else "it says nothing"))


@contextmanager
def unfiltered(args):
    """While it lasts, transformers leaves no loss that is NaN or infinite out of means; `args` are as before then."""
    filtered, args.logging_nan_inf_filter = args.logging_nan_inf_filter, False
    try:
        yield
    finally:
        args.logging_nan_inf_filter = filtered


def check_weights(trainer):
    """Refuse weights that are not finite. All processes must call this: each may hold a part."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    bad = [name for name, p in model.named_parameters() if p.requires_grad and not _all_finite(p)]
    count = torch.tensor(float(len(bad)), device=trainer.accelerator.device)
    if trainer.accelerator.reduce(count, reduction="sum").item():
        which = f"{bad[0]} has" if bad else "on another process there are"
        raise NotFiniteError(_message(trainer, f"After step {trainer.state.global_step}, {which} values that are NaN"))


def _all_finite(parameter):
    values = parameter.detach()
    values = values.to_local() if hasattr(values, "to_local") else values  # FSDP
    values = getattr(parameter, "ds_tensor", values)  # ZeRO-3
    return not values.is_floating_point() or values.isfinite().all().item()


def _step(trainer):
    return trainer.state.global_step + 1  # it counts finished ones


def _message(trainer, what, so="training stops"):
    saved = trainer.last_checkpoint
    return (
        f"{what}, so {so}. "
        + (f"{saved.name} was saved before. " if saved else "No checkpoint was saved before. ")
        + f"Lower `learning_rate` (it is {trainer.args.learning_rate:g}) or raise `warmup_steps`; "
        + ("use bf16 in place of fp16; " if trainer.args.fp16 else "")
        + "check that the weights of `model` are finite and that it answers well before training."
    )
