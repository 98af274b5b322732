"""Online-DPO stops where its judge says nothing: each loss is 0 then, and the run would end well without training."""

import logging

import torch
from transformers import TrainerCallback

from ...data.rows import message_text
from ...data.shown import shown


logger = logging.getLogger(__name__)

UNREADABLE = ("invalid", "inconsistent")


class VerdictWatch(TrainerCallback):
    """
    Counts steps in a row in which the judge was asked and said nothing that can be read, over all processes, so that
    they stop together. Equal answers, and a judge that cannot be reached, leave the count as it is: nothing was read.

    Args:
        trainer ([`MMOnlineDPOTrainer`]): the trainer, with a judge.
    """

    def __init__(self, trainer):
        self.trainer = trainer
        self.most = trainer.args.max_steps_without_verdict
        self.steps = 0
        self.warned = False
        self._begin()

    def _begin(self):
        self.asked, self.unread, self.reply = 0, 0, None

    def see(self, pairs):
        """Count the verdicts of the sampled pairs of a micro-batch ([`OnPolicySampler`])."""
        if not self.trainer.model.training:
            return
        for pair in pairs:
            verdict = pair["verdict"]
            chosen, rejected = (message_text(pair[name][0]).strip() for name in ("chosen", "rejected"))
            if verdict is None or chosen == rejected:
                continue
            self.asked += 1
            if verdict.outcome in UNREADABLE:
                self.unread += 1
                self.reply = self.reply or f"{verdict.outcome}: {shown(verdict.text) or 'an empty reply'}"

    def on_step_end(self, args, state, control, **kwargs):
        accelerator = self.trainer.accelerator
        counts = torch.tensor([self.asked, self.unread], device=accelerator.device)
        asked, unread = accelerator.reduce(counts, reduction="sum").tolist()
        reply = self.reply or "on another process"
        self._begin()
        if asked == 0:
            return
        self.steps = self.steps + 1 if unread == asked else 0
        if self.steps == 0:
            return
        if not self.warned and accelerator.is_main_process:
            logger.warning(
                f"The judge gave none of the {asked} pairs of step {state.global_step} a verdict that can be read, so "
                f"they train nothing. The first one ({reply})."
            )
        self.warned = True
        # A run that is shorter must not end well either
        if self.most and self.steps >= min(self.most, state.max_steps):
            raise ValueError(self._message(state.global_step, reply))

    def _message(self, step, reply):
        saved = self.trainer.last_checkpoint
        return (
            f"The judge has given no verdict that can be read in {self.steps} steps in a row, up to step {step}, so "
            f"training stops. The first one of this step ({reply}). "
            + (f"{saved.name} was saved before. " if saved else "No checkpoint was saved before. ")
            + "Look at what the judge is asked and replies, give it more tokens for its reply, or use a judge that "
            "follows instructions better. If so few verdicts are right, raise `max_steps_without_verdict` "
            f"(it is {self.most}); 0 never stops."
        )
