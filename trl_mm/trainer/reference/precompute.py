"""`precompute_ref_log_probs` with images, which TRL refuses.

The way of the setting: `check_precomputing` refuses what does not go with it; TRL's constructor, told that there are
no images, leaves out the second model and ends with `_precompute_ref_logps`; cache.py computes and keeps the values;
the collator hands them to TRL's loss.
"""

from functools import partial
from pathlib import Path

from huggingface_hub.constants import HF_HOME
from torch.utils.data import DataLoader
from trl.models import prepare_deepspeed

from .cache import cached_log_probs, with_log_probs
from .cache_key import reference_digest, reference_key


def check_precomputing(args):
    """
    Refuse what cannot go with reference log-probabilities from before training.

    Args:
        args ([`~trl.DPOConfig`]): arguments of the trainer.

    Raises:
        ValueError: image tokens would be cut.
    """
    if args.precompute_ref_log_probs and args.max_length is not None and args.truncation_mode == "keep_end":
        # TRL raises this itself for what it takes for a vision dataset
        raise ValueError(
            "`truncation_mode='keep_end'` would cut image tokens. Use 'keep_start', or set `max_length=None`."
        )


class PrecomputedReference:
    """
    To be inherited before [`~trl.DPOTrainer`]. The only change w.r.t. it is that `precompute_ref_log_probs` works with
    images, and keeps its values on disk for all runs that share reference, rows, processor and settings.

    The inheriting class sets `precomputes_reference` before TRL's constructor runs, and has `prepare_parts`,
    `_checked` and `_with_pairs`.
    """

    parts_are_ready = False  # set by `prepare_parts`

    # TRL 1.16 refuses the setting if its constructor finds images in the first row. Told that there are none, it takes
    # the way of text: `_prepare_dataset` and `_precompute_ref_logps`, both ours. Nothing else hangs on it, as the
    # collator is ours too. To be removed, with `_prepare_dataset`, once `DPOTrainer` takes the setting with images.
    @property
    def _is_vision_dataset(self):
        return not self.precomputes_reference

    @_is_vision_dataset.setter
    def _is_vision_dataset(self, found):
        pass  # rows have been checked: they always have `images`

    def _prepare_dataset(self, dataset, processing_class, args, dataset_name):
        if not self.parts_are_ready:  # called by TRL's constructor, with what ours has checked
            return dataset
        name = dataset_name if dataset_name == "eval" else f"eval_{dataset_name}"
        return self._checked(dataset, processing_class, args, name)

    def _precompute_ref_logps(self, dataset, name, batch_size):
        """
        Preference rows with `ref_chosen_logps` and `ref_rejected_logps` (`datasets.Dataset`), from the cache or
        computed now. All processes must call this.

        Raises:
            ValueError: rows have no `rejected`, or a log-probability is not finite.
        """
        self.prepare_parts()  # TRL calls this at the end of its constructor, before ours goes on
        if dataset is self.train_dataset:
            dataset = self._with_pairs(dataset)
        elif f"eval_{name}" in self.fit_report:  # one of a `dict`, whose key may be "train" as well
            name = f"eval_{name}"
        if "rejected" not in dataset.column_names or dataset.data.column("rejected").null_count:
            raise ValueError(
                f"Rows of the {name} dataset have no `rejected`, so their reference log-probabilities cannot be "
                "computed before training. Make the pairs with `trl-mm bdhs` and use its output, or set "
                "`precompute_ref_log_probs=False`."
            )
        reference = self.accelerator.unwrap_model(self.ref_model or self.model)
        key = reference_key(
            dataset,
            # FSDP has sharded the reference by now; TRL has hashed it before
            self._precompute_model_hash if self.is_fsdp_enabled else reference_digest(reference),
            self.processing_class,
            self.data_collator,
            max_length=self.args.max_length,
            ld_alpha=self.ld_alpha,
            mixed_precision=self.accelerator.mixed_precision,
        )
        values = cached_log_probs(
            dataset,
            key,
            self.args.ref_log_probs_dir or Path(HF_HOME) / "trl_mm" / "ref_log_probs",
            partial(self._reference_log_probs, dataset),
            lengths=self.fit_report[name].kept.total,
            batch_size=batch_size,
            accelerator=self.accelerator,
            name=name,
        )
        return with_log_probs(dataset, values)

    def _reference_log_probs(self, dataset, batches):
        model = self.ref_model or self.model
        if self.ref_model is None and self.is_deepspeed_enabled:
            if self._precompute_engine is None:  # places and gathers what DeepSpeed has not placed yet, as TRL does
                self._precompute_engine = prepare_deepspeed(self.model, self.accelerator)
            model = self._precompute_engine
        loader = DataLoader(
            dataset,
            batch_sampler=batches,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
        )
        model.eval()
        for batch in loader:
            yield self.compute_ref_log_probs(model, self._prepare_batch(batch))
