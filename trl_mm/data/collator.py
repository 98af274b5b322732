"""Rows to the batch that TRL's loss takes."""

from dataclasses import dataclass

from trl.trainer.dpo_trainer import DataCollatorForVisionPreference

from .images import open_image


COLUMNS = ("images", "prompt", "chosen", "rejected")


@dataclass
class PreferenceCollator(DataCollatorForVisionPreference):
    """
    The only change w.r.t. `DataCollatorForVisionPreference` is that rows keep their images as they are stored until a
    batch needs them, that rows are not modified, and that rows without `rejected` pass through as `{"rows": rows}` for
    the trainer to make pairs from.
    """

    def torch_call(self, examples):
        if any(example.get("rejected") is None for example in examples):
            return {"rows": examples}
        rows = [{name: example[name] for name in COLUMNS} for example in examples]
        return super().torch_call([{**row, "images": [open_image(image) for image in row["images"]]} for row in rows])
