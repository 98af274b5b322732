"""DPO on image-text pairs: from disk, or made by a sampler during or before training."""

from collections.abc import Callable, Mapping
from typing import Any

from datasets import Dataset
from peft import PeftModel
from transformers import EvalPrediction, PreTrainedModel, ProcessorMixin, TrainerCallback
from trl import DPOConfig, DPOTrainer
from trl.trainer.utils import get_config_model_id

from ..data.rows import PREFERENCE_COLUMNS
from ..tokens.collator import PACKED_SIZES, PreferenceCollator
from ..tokens.fit_report import FitReport
from .bdhs_loss import BDHSLoss
from .distorted_answer import DISTORTION, distorted_batch, distorts, find_likeliest
from .dpo_config import MMDPOConfig
from .length_grouping import GroupsByLength
from .mm_trainer import MMTrainer, check_given_models
from .pair_generation import (
    check_backend,
    check_pair_generator,
    generate_for_batch,
    generate_offline,
    log_metrics,
    pair_generator_of,
)
from .parts.lora_targets import with_targets
from .parts.parameter_groups import check_optimizer
from .parts.quantization import skip_quantizing_saved_modules
from .prefix_sharing.enable import bare_models, dummy_image, enable_prefix_sharing
from .prefix_sharing.forest import Forests, spared
from .reference.precompute import PrecomputedReference, check_precomputing
from .row_checks import checked_rows
from .rows_config import fill_defaults
from .vision_processor import vision_processor


class MMDPOTrainer(MMTrainer, GroupsByLength, PrecomputedReference, BDHSLoss, DPOTrainer):
    """
    The only change w.r.t. [`~trl.DPOTrainer`] is what happens before the loss: rows are checked before training (see
    [`MMDPOConfig`]), and if a callback is a pair generator such as [`BDHSDataGenerator`], pairs are made from SFT rows
    by the current policy at each step, or by the initial policy once before training; that BOS and EOS tokens are
    added where the chat template leaves them out; that both answers of a pair share one computation of their prompt
    (`prefix_sharing`); that `precompute_ref_log_probs` works with images; and that parts of the model can be frozen,
    or trained at a rate of their own. The loss is TRL's.

    How rows fit `max_length` stands in `fit_report`, a [`FitReport`] for each dataset, under `"train"`, `"eval"`, or
    `"eval_NAME"` if there are several. With `train_sampling_strategy="group_by_length"`, rows of similar length,
    images included, make a batch. The metric `padding` is the share of padding in the batches, and `shared_tokens` the
    share of TRL's tokens that are not computed, since another sequence of the batch begins with the same ones.

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
        train_dataset (`datasets.Dataset`):
            Rows with `images`, `prompt`, `chosen` and, unless a callback makes it, `rejected`.
        eval_dataset (`datasets.Dataset` or `dict[str, datasets.Dataset]`, *optional*):
            Rows for evaluation.
        processing_class ([`~transformers.ProcessorMixin`], *optional*):
            Processor of the model. Loaded from the model's id if it is not given.
        compute_metrics, callbacks, **kwargs:
            As in [`~trl.DPOTrainer`]. A [`~peft.LoraConfig`] without `target_modules` adapts the language model only.

    Raises:
        ValueError: a row cannot be trained on (the message names file, row and cure), or `model` is no vision-language
            model.
        TypeError: `processing_class` is no processor of a vision-language model.
    """

    _tag_names = ["trl", "trl-mm", "dpo"]

    def __init__(
        self,
        model: str | PreTrainedModel | PeftModel,
        ref_model: PreTrainedModel | None = None,
        args: DPOConfig | None = None,
        data_collator: Callable[[list[dict[str, Any]]], dict[str, Any]] | None = None,
        train_dataset: Dataset | None = None,
        eval_dataset: Dataset | Mapping[str, Dataset] | None = None,
        processing_class: ProcessorMixin | None = None,
        compute_metrics: Callable[[EvalPrediction], dict[str, Any]] | None = None,
        callbacks: list[TrainerCallback] | None = None,
        **kwargs: Any,
    ):
        model_id = model if isinstance(model, str) else get_config_model_id(model.config)
        if args is None:
            args = MMDPOConfig(f"{model_id.split('/')[-1]}-DPO")
        fill_defaults(args, MMDPOConfig)
        check_given_models(model=model, ref_model=ref_model)
        processing_class = vision_processor(model_id, args, processing_class)
        self.pair_generator = pair_generator_of(callbacks)
        self.rejected_weight = self.pair_generator.rejected_weight if self.pair_generator else None
        self._pairs_are_made = False
        self.fit_report: dict[str, FitReport] = {}
        check_settings(args, self.pair_generator, data_collator, kwargs.get("optimizers"))
        self.precomputes_reference = args.precompute_ref_log_probs
        self.keeps_layout_of_trl = None  # or the reason why
        if data_collator is not None:
            self.keeps_layout_of_trl = "a `data_collator` of your own may return the images once for each answer"
        elif compute_metrics is not None:
            self.keeps_layout_of_trl = "`compute_metrics` asks for the logits of TRL's layout"
        self.pair_collator = data_collator or PreferenceCollator(
            processing_class,
            args.max_length,
            pad_to_multiple_of=args.pad_to_multiple_of,
            two_rejected=self.rejected_weight is not None,
        )
        kwargs["peft_config"] = with_targets(kwargs.get("peft_config"), model, args)
        kwargs = skip_quantizing_saved_modules(kwargs, kwargs["peft_config"])
        args.model_init_kwargs = skip_quantizing_saved_modules(args.model_init_kwargs, kwargs["peft_config"])
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
        self.prepare_parts()

    def prepare_parts(self) -> None:
        if self.parts_are_ready:
            return
        self.parts_are_ready = True
        check_backend(self)
        super().prepare_parts()
        enable_prefix_sharing(
            self, self.pair_collator, self.keeps_layout_of_trl, not self.precomputes_reference, Forests()
        )
        if distorts(self.pair_generator):
            for model in bare_models(self):
                find_likeliest(model)
        self._dummy_image = dummy_image(self)

    def _checked(self, dataset, processor, args, name):
        needs = needed_columns(self.pair_generator)
        return checked_rows(
            dataset, processor, args, needs, self.fit_report, name, args.max_length, self.pair_generator
        )

    def train(self, resume_from_checkpoint=None, *args, **kwargs):
        # The one moment when the dataset may still be replaced and the policy is the initial one: later the weights of
        # the checkpoint are loaded, then the dataloader is made, then comes on_train_begin
        self.train_dataset = self._with_pairs(self.train_dataset)
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def _with_pairs(self, dataset):
        if self.pair_generator is not None and not self.pair_generator.online and not self._pairs_are_made:
            dataset = generate_offline(self, dataset)
            self._pairs_are_made = True
        return dataset

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        self.train_dataset = self._with_pairs(self.train_dataset)  # while the policy still is the initial one
        super()._load_from_checkpoint(resume_from_checkpoint, model)

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        # Logits of shared prefixes are in no layout that one could use, and take gigabytes in TRL's
        return super().prediction_step(
            model, inputs, prediction_loss_only or self.compute_metrics is None, ignore_keys
        )

    def _prepare_inputs(self, inputs):
        if "rows" in inputs and distorts(self.pair_generator):
            inputs = distorted_batch(self, inputs["rows"])
        elif "rows" in inputs:
            inputs = self.pair_collator(generate_for_batch(self, inputs["rows"]))
        inputs = self._prepare_batch(inputs)
        if self._packed_sizes is None:
            mask = inputs["pairs"][0]["attention_mask"] if "pairs" in inputs else inputs["attention_mask"]
            metrics = {"padding": 1 - mask.float().mean()}
        else:
            metrics = spared(self._packed_sizes)
        log_metrics(self, metrics, "train" if self.model.training else "eval")
        return inputs

    def _prepare_batch(self, batch):
        if self._dummy_image is not None:
            batch = self._dummy_image.added_to(batch)
            if DISTORTION in batch:
                batch[DISTORTION]["inputs"] = self._dummy_image.added_to(batch[DISTORTION]["inputs"])
        self._packed_sizes = batch.get(PACKED_SIZES)
        return super()._prepare_inputs({name: value for name, value in batch.items() if name != PACKED_SIZES})


def check_settings(args, pair_generator, data_collator=None, optimizers=None):
    """Refuse, before anything is loaded, settings that do not go together."""
    check_precomputing(args)
    check_pair_generator(pair_generator, args, data_collator)
    check_optimizer(args, optimizers)


def needed_columns(pair_generator):
    """Columns that rows must have (`tuple[str]`); a pair generator makes the others."""
    return PREFERENCE_COLUMNS if pair_generator is None else pair_generator.needs
