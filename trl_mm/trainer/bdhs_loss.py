"""TRL's loss of what BDHS adds to a batch: a second rejected answer beside the stored one, or a distorted one."""

from contextlib import contextmanager
from functools import partial

import torch

from .distorted_answer import DISTORTION, DistortedModel
from .pair_generation import log_metrics
from .prefix_sharing.averaged_loss import averaged_loss


class BDHSLoss:
    """
    To be inherited before [`~trl.DPOTrainer`]. The only change w.r.t. it is
    the loss of batches with three answers, an average of two of TRL's, and of batches with distorted answers, whose
    labels depend on the model. All others go to TRL as they are.
    """

    def _compute_loss(self, model, inputs, return_outputs):
        trl_loss = super()._compute_loss
        distortion = inputs.pop(DISTORTION, None)
        if distortion is None and self.rejected_weight is None:
            return trl_loss(model, inputs, return_outputs)
        if return_outputs:
            raise ValueError(
                "`compute_metrics` sees one rejected answer, and no distorted one. Leave it out, or `rejected_weight` "
                "and `mode='povid'`."
            )
        if "pairs" in inputs:  # prefixes are not shared: the chosen answer is computed once for each
            weights = (self.rejected_weight, 1 - self.rejected_weight)
            losses = [
                self._loss_of_answers(trl_loss, model, pair, distortion, number)
                for number, pair in enumerate(inputs["pairs"])
            ]
            return sum(weight * loss for weight, loss in zip(weights, losses, strict=True))
        return self._loss_of_answers(trl_loss, model, inputs, distortion)

    def _loss_of_answers(self, trl_loss, model, inputs, distortion, number=0):
        """TRL's loss of two answers, or of three that go through the model together."""
        reference = self.ref_model or self.model
        if distortion is not None:
            seen = distortion["inputs"], distortion["stands_for"][number]
            model, reference = (DistortedModel(self, part, *seen) for part in (model, reference))
        if self.rejected_weight is not None and self.pair_collator.images_per_prompt:
            loss = self._averaged_loss(trl_loss, model, reference, inputs)
        elif distortion is not None:
            chosen, rejected = self.compute_ref_log_probs(reference, inputs)
            with self._reference_in_inputs():
                loss = trl_loss(model, {**inputs, "ref_chosen_logps": chosen, "ref_rejected_logps": rejected}, False)
        else:
            loss = trl_loss(model, inputs, False)
        if distortion is not None:
            log_metrics(self, {"bdhs/changed_rate": model.changed}, "train" if self.model.training else "eval")
        return loss

    def _averaged_loss(self, trl_loss, model, reference, inputs):
        inputs["num_branches"] = 3
        model_inputs = {name: value for name, value in inputs.items() if name != "completion_mask"}
        labels = inputs["input_ids"].masked_fill(inputs["completion_mask"] == 0, -100)
        outputs = model(**model_inputs, labels=labels, fused_lm_head=True, use_cache=False)
        ref_log_probs = torch.cat(self.compute_ref_log_probs(reference, inputs))
        with self._reference_in_inputs():
            pair_loss = partial(trl_loss, return_outputs=False)
            return averaged_loss(pair_loss, outputs, ref_log_probs, inputs, self.rejected_weight)

    @contextmanager
    def _reference_in_inputs(self):
        """TRL's loss takes the reference's log-probabilities from its inputs, as if they had been computed before."""
        self.precompute_ref_logps = True
        try:
            yield
        finally:
            self.precompute_ref_logps = False
