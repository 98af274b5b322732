"""Rows to the batch that TRL's loss takes."""

from dataclasses import dataclass

import torch
from trl.trainer.dpo_trainer import DataCollatorForVisionPreference

from .images import open_image


COLUMNS = ("images", "prompt", "chosen", "rejected")
# Computed before training by `precompute_ref_log_probs`
REF_LOG_PROBS = ("ref_chosen_logps", "ref_rejected_logps")
PER_TOKEN = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")


@dataclass
class PreferenceCollator(DataCollatorForVisionPreference):
    """
    The only change w.r.t. `DataCollatorForVisionPreference` is that rows keep their images as they are stored until a
    batch needs them, that rows are not modified, and that rows without `rejected` pass through as `{"rows": rows}` for
    the trainer to make pairs from. With `images_once`, pixels are processed and returned once per row, as
    [`share_prefixes`] expects them, and not once for each answer. `ref_chosen_logps` and `ref_rejected_logps` of the
    rows become tensors of shape `(batch_size,)`.
    """

    images_once: bool = False

    def torch_call(self, examples):
        if any(example.get("rejected") is None for example in examples):
            return {"rows": examples}
        rows = [{name: example[name] for name in COLUMNS} for example in examples]
        rows = [{**row, "images": [open_image(image) for image in row["images"]]} for row in rows]
        if self.images_once:
            batch = DataCollatorForVisionPreference(PromptsOnce(self.processor), self.max_length).torch_call(rows)
        else:
            batch = super().torch_call(rows)
        for name in REF_LOG_PROBS:
            if name in examples[0]:
                batch[name] = torch.tensor([example[name] for example in examples])  # (B,)
        return batch


class PromptsOnce:
    """The processor for TRL's collator, which asks for every prompt and its images twice: pixels come once."""

    def __init__(self, processor):
        self.processor = processor

    def __getattr__(self, name):
        return getattr(self.processor, name)

    def __call__(self, text, images=None, padding_side=None, **kwargs):
        if padding_side == "right":  # answers
            return self.processor(text=text, padding_side=padding_side, **kwargs)
        half = len(text) // 2
        images = None if images is None else images[:half]
        inputs = self.processor(text=text[:half], images=images, padding_side=padding_side, **kwargs)
        for name in PER_TOKEN:
            if name in inputs:
                inputs[name] = torch.cat([inputs[name]] * 2)
        return inputs
