"""DPO on image-text pairs: from disk, or made by a sampler during or before training."""

from contextlib import contextmanager
from functools import cache, partial

import torch
from torch.utils.data import SequentialSampler
from trl import DPOTrainer
from trl.trainer.utils import get_config_model_id

from ..data.protocols import PairGenerator
from ..data.rows import PREFERENCE_COLUMNS
from ..tokens.collator import PreferenceCollator
from .distorted_answer import (
    DISTORTION,
    DistortedModel,
    check_distortion,
    distorted_batch,
    distorts,
    find_likeliest,
)
from .dpo_config import MMDPOConfig
from .length_grouping import LengthGroupedSampler
from .mm_trainer import MMTrainer, check_given_models
from .pair_generation import check_backend, drop_stored_rejected, generate_for_batch, generate_offline, log_metrics
from .parts.lora_targets import with_targets
from .parts.parameter_groups import check_optimizer
from .parts.quantization import skip_quantizing_saved_modules
from .prefix_sharing.averaged_loss import averaged_loss
from .prefix_sharing.enable import bare_models, dummy_image, enable_prefix_sharing
from .reference.precompute import HIDDEN_IMAGES, check_precomputing, hide_images, with_reference
from .row_checks import checked_rows
from .rows_config import fill_defaults
from .vision_processor import vision_processor


class MMDPOTrainer(MMTrainer, DPOTrainer):
    """
    The only change w.r.t. [`~trl.DPOTrainer`] is what happens before the loss: rows are checked before training (see
    [`MMDPOConfig`]), and if a callback is a pair generator such as [`BDHSDataGenerator`], pairs are made from SFT rows
    by the current policy at each step, or by the initial policy once before training; that BOS and EOS tokens are
    added where the chat template leaves them out; that both answers of a pair share one computation of their prompt
    (`prefix_sharing`); that `precompute_ref_log_probs` works with images; and that parts of the model can be frozen,
    or trained at a rate of their own. The loss is TRL's.

    How rows fit `max_length` stands in `fit_report`, a [`FitReport`] for each dataset, under `"train"`, `"eval"`, or
    `"eval_NAME"` if there are several. With `train_sampling_strategy="group_by_length"`, rows of similar length,
    images included, make a batch. The metric `padding` is the share of padding in the batches.

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
        fill_defaults(args, MMDPOConfig)
        check_given_models(model=model, ref_model=ref_model)
        processing_class = vision_processor(model_id, args, processing_class)
        generators = [callback for callback in callbacks or [] if isinstance(callback, PairGenerator)]
        if len(generators) > 1:
            raise ValueError(f"Only one callback can make pairs, got {[type(g).__name__ for g in generators]}.")
        self.pair_generator = generators[0] if generators else None
        self.rejected_weight = self.pair_generator.rejected_weight if self.pair_generator else None
        self._pairs_are_made = False
        self.fit_report = {}
        check_precomputing(args, self.pair_generator)
        self.pair_collator = data_collator or PreferenceCollator(
            processing_class, args.max_length, pad_to_multiple_of=args.pad_to_multiple_of
        )
        if distorts(self.pair_generator):
            check_distortion(args, data_collator)
        if self.rejected_weight is not None:
            if data_collator is not None or args.ld_alpha is not None or args.precompute_ref_log_probs:
                raise ValueError(
                    "`rejected_weight` puts a third answer into each batch, which works without `data_collator`, "
                    "`ld_alpha` and `precompute_ref_log_probs` only. Leave them out, or `rejected_weight`."
                )
            self.pair_collator.two_rejected = True
        check_optimizer(args, kwargs.get("optimizers"))
        kwargs["peft_config"] = with_targets(kwargs.get("peft_config"), model, args)
        kwargs = skip_quantizing_saved_modules(kwargs, kwargs["peft_config"])
        args.model_init_kwargs = skip_quantizing_saved_modules(args.model_init_kwargs, kwargs["peft_config"])
        self._prepare_models_once = cache(partial(self._prepare_models, data_collator, compute_metrics))
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
        self._prepare_models_once()

    def _prepare_models(self, data_collator, compute_metrics):
        check_backend(self)
        self.prepare_parts()
        reason = None
        if data_collator is not None:
            reason = "a `data_collator` of your own may return the images once for each answer"
        elif compute_metrics is not None:
            reason = "`compute_metrics` asks for the logits of TRL's layout"
        enable_prefix_sharing(self, self.pair_collator, reason, not self.precompute_ref_logps)
        if distorts(self.pair_generator):
            for model in bare_models(self):
                find_likeliest(model)
        self._dummy_image = dummy_image(self)

    def _checked(self, dataset, processor, args, name):
        needs = self.pair_generator.needs if self.pair_generator else PREFERENCE_COLUMNS
        if self.pair_generator is not None:
            dataset = drop_stored_rejected(dataset, self.pair_generator, name)
        dataset = checked_rows(dataset, processor, args, needs, self.fit_report, name, args.max_length)
        return hide_images(dataset) if args.precompute_ref_log_probs else dataset

    def _prepare_dataset(self, dataset, processing_class, args, dataset_name):
        # Called only with hidden images, or by `evaluate` with a dataset that is new
        if HIDDEN_IMAGES not in dataset.column_names or not {"image", "images"}.isdisjoint(dataset.column_names):
            name = dataset_name if dataset_name == "eval" else f"eval_{dataset_name}"
            dataset = self._checked(dataset, processing_class, args, name)
        return dataset.rename_column(HIDDEN_IMAGES, "images")

    def _precompute_ref_logps(self, dataset, name, batch_size):
        self._prepare_models_once()
        if dataset is self.train_dataset:
            dataset = self._with_pairs(dataset)
        elif f"eval_{name}" in self.fit_report:  # one of a `dict`, whose key may be "train" as well
            name = f"eval_{name}"
        return with_reference(self, dataset, name, batch_size)

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

    def _get_train_sampler(self, train_dataset=None):
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)
        # transformers would look for a column of lengths, which image rows do not have
        return LengthGroupedSampler(
            self.args.train_batch_size * self.args.gradient_accumulation_steps,
            self.fit_report["train"].kept.total.tolist(),
            self.args.seed if self.args.data_seed is None else self.args.data_seed,
            epoch=lambda: int(self.state.epoch or 0),
        )

    def _get_eval_sampler(self, eval_dataset):
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_eval_sampler(eval_dataset)
        return SequentialSampler(eval_dataset)

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        self.train_dataset = self._with_pairs(self.train_dataset)  # while the policy still is the initial one
        super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _prepare_inputs(self, inputs):
        if "rows" in inputs and distorts(self.pair_generator):
            inputs = distorted_batch(self, inputs["rows"])
        elif "rows" in inputs:
            inputs = self.pair_collator(generate_for_batch(self, inputs["rows"]))
        inputs = self._prepare_batch(inputs)
        mask = inputs["pairs"][0]["attention_mask"] if "pairs" in inputs else inputs["attention_mask"]
        padding = self.accelerator.reduce(1 - mask.float().mean(), reduction="mean")
        self._metrics["train" if self.model.training else "eval"]["padding"].append(padding.item())
        return inputs

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

    def _prepare_batch(self, batch):
        if self._dummy_image is not None:
            batch = self._dummy_image.added_to(batch)
            if DISTORTION in batch:
                batch[DISTORTION]["inputs"] = self._dummy_image.added_to(batch[DISTORTION]["inputs"])
        return super()._prepare_inputs(batch)
