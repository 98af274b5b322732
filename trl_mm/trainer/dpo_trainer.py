"""DPO on image-text pairs: from disk, or made by a sampler during or before training."""

from collections.abc import Mapping
from pathlib import Path

import torch
from datasets import Dataset
from transformers import AutoProcessor, ProcessorMixin
from trl import DPOTrainer
from trl.models.utils import unwrap_model_for_generation
from trl.trainer.utils import get_config_model_id

from ..data.collator import PreferenceCollator
from ..data.lengths import keep_fitting
from ..data.loading import BAD_ROWS, prepare_preferences
from ..data.rows import PREFERENCE_COLUMNS
from ..data.samplers import PairGenerator
from .dpo_config import MMDPOConfig


class MMDPOTrainer(DPOTrainer):
    """
    The only change w.r.t. [`~trl.DPOTrainer`] is what happens before the loss: rows are checked before training (see
    [`MMDPOConfig`]), and if a callback is a pair generator such as [`BDHSDataGenerator`], pairs are made from SFT rows
    by the current policy at each step, or by the initial policy once before training. The loss is TRL's.

    Args:
        model (`str` or [`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]):
            Vision-language model to train, as in [`~trl.DPOTrainer`].
        ref_model ([`~transformers.PreTrainedModel`], *optional*):
            Reference model, as in [`~trl.DPOTrainer`].
        args ([`MMDPOConfig`] or [`~trl.DPOConfig`], *optional*):
            Training arguments. A plain `DPOConfig` is taken with the defaults of `MMDPOConfig` for what it lacks; its
            `max_length` is kept.
        data_collator (`Callable`, *optional*):
            Collator of preference rows. Defaults to [`PreferenceCollator`].
        train_dataset (`datasets.Dataset` or `datasets.IterableDataset`):
            Rows with `images`, `prompt`, `chosen` and, unless a callback makes it, `rejected`.
        eval_dataset (`datasets.Dataset` or `dict[str, datasets.Dataset]`, *optional*):
            Rows for evaluation.
        processing_class ([`~transformers.ProcessorMixin`], *optional*):
            Processor of the model. Loaded from the model's id if it is not given.
        compute_metrics, callbacks, **kwargs:
            As in [`~trl.DPOTrainer`].

    Raises:
        ValueError: a row cannot be trained on (the message names file, row and cure), or `model` is no vision-language
            model.
        TypeError: `processing_class` is no processor of a vision-language model.
    """

    _tag_names = ["trl", "trl-mm", "dpo"]

    def __init__(
        self,
        model,
        ref_model=None,
        args=None,
        data_collator=None,
        train_dataset=None,
        eval_dataset=None,
        processing_class=None,
        compute_metrics=None,
        callbacks=None,
        **kwargs,
    ):
        model_id = model if isinstance(model, str) else get_config_model_id(model.config)
        if args is None:
            args = MMDPOConfig(f"{model_id.split('/')[-1]}-DPO")
        if processing_class is None:
            revision = (args.model_init_kwargs or {}).get("revision")
            processing_class = AutoProcessor.from_pretrained(
                model_id, revision=revision, trust_remote_code=args.trust_remote_code
            )
            if not isinstance(processing_class, ProcessorMixin):
                raise ValueError(
                    f"`model` ({model_id}) has no image processor, so it is no vision-language model. Pass one such "
                    "as llava-hf/llava-v1.6-vicuna-7b-hf; text-only models train with `trl.DPOTrainer`."
                )
        if not isinstance(processing_class, ProcessorMixin):
            raise TypeError(
                f"`processing_class` must be the processor of a vision-language model, got "
                f"{type(processing_class).__name__}. Text-only models train with `trl.DPOTrainer`."
            )
        generators = [callback for callback in callbacks or [] if isinstance(callback, PairGenerator)]
        if len(generators) > 1:
            raise ValueError(f"Only one callback can make pairs, got {[type(g).__name__ for g in generators]}.")
        self.pair_generator = generators[0] if generators else None
        self._pairs_are_made = False

        pad_token = args.pad_token or processing_class.tokenizer.pad_token or processing_class.tokenizer.eos_token
        processing_class.tokenizer.pad_token = pad_token
        self.pair_collator = data_collator or PreferenceCollator(processing_class, args.max_length)
        super().__init__(
            model,
            ref_model=ref_model,
            args=args,
            data_collator=self.pair_collator,
            train_dataset=self._checked(train_dataset, processing_class, args, "train"),
            eval_dataset=self._checked(eval_dataset, processing_class, args, "eval"),
            processing_class=processing_class,
            compute_metrics=compute_metrics,
            callbacks=callbacks,
            **kwargs,
        )

    def _checked(self, dataset, processor, args, name):
        """Rows in the row format, those that cannot be trained on refused, skipped or dropped."""
        if isinstance(dataset, Mapping):
            return {key: self._checked(part, processor, args, f"{name} ({key})") for key, part in dataset.items()}
        if not isinstance(dataset, Dataset):
            return dataset  # nothing, or a stream, whose rows are checked as they come
        dataset = prepare_preferences(
            dataset,
            needs=self.pair_generator.needs if self.pair_generator else PREFERENCE_COLUMNS,
            check_images=getattr(args, "check_images", True),
            on_bad_image=getattr(args, "on_bad_image", "error"),
            bad_rows_file=Path(args.output_dir) / BAD_ROWS,
            locate=lambda index: (f"{name} dataset", index),
        )
        return keep_fitting(dataset, processor, args.max_length, getattr(args, "overlong", "drop"), name)

    def _set_signature_columns_if_needed(self):
        super()._set_signature_columns_if_needed()
        if "row_id" not in self._signature_columns:  # seeds derive from it
            self._signature_columns.append("row_id")

    def get_train_dataloader(self):
        # The one moment before training when the dataset may still be replaced: on_train_begin comes too late
        if self.pair_generator is not None and not self.pair_generator.online and not self._pairs_are_made:
            with self._generation_model() as model:
                folder = self.pair_generator.make_dataset(
                    model,
                    self.processing_class,
                    self.train_dataset,
                    Path(self.args.output_dir) / "pairs",
                    self.args.process_index,
                    self.args.world_size,
                )
            self.accelerator.wait_for_everyone()
            self.train_dataset = self.pair_generator.load_dataset(folder)
            self._pairs_are_made = True
        return super().get_train_dataloader()

    def _generation_model(self):
        return unwrap_model_for_generation(
            self.model_wrapped,
            self.accelerator,
            gradient_checkpointing_kwargs=self.args.gradient_checkpointing_kwargs,
        )

    def _prepare_inputs(self, inputs):
        if "rows" in inputs:
            inputs = self.pair_collator(self._make_pairs(inputs["rows"]))
        return super()._prepare_inputs(inputs)

    def _make_pairs(self, rows):
        if self.pair_generator is None:
            raise ValueError("A row has no `rejected` and no callback makes it. Pass a `BDHSDataGenerator`.")
        mode = "train" if self.model.training else "eval"
        step = self.state.global_step if mode == "train" else 0
        with self._generation_model() as model, self.accelerator.autocast():
            pairs, metrics = self.pair_generator.sample(model, self.processing_class, rows, step)
        names = sorted(metrics)
        means = self.accelerator.reduce(
            torch.tensor([metrics[name] for name in names], device=self.accelerator.device), reduction="mean"
        )
        for name, value in zip(names, means.tolist(), strict=True):
            self._metrics[mode][name].append(value)
        return pairs
