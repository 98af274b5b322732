"""Reward models on image-text pairs."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel
from transformers import EvalPrediction, PreTrainedModel, ProcessorMixin, TrainerCallback
from trl import RewardConfig, RewardTrainer
from trl.trainer.utils import get_config_model_id

from ..data.rows import PREFERENCE_COLUMNS
from ..reward import models as _registered  # noqa: F401  classes that AutoModelForSequenceClassification finds
from ..reward.evaluation_tables import Table, evaluation_tables
from ..reward.measures import measure_pairs, metrics_of
from ..tokens.collator import PACKED_SIZES, PreferenceCollator
from ..tokens.fit_report import FitReport
from .length_grouping import GroupsByLength
from .mm_trainer import MMTrainer, check_given_models
from .parts.lora_targets import with_targets
from .parts.parameter_groups import check_optimizer
from .parts.quantization import skip_quantizing_saved_modules
from .prefix_sharing.enable import bare_models, can_share_prefixes, dummy_image
from .prefix_sharing.forest import spared
from .prefix_sharing.shared_scores import share_scored_prefixes
from .reward_config import MMRewardConfig
from .row_checks import checked_rows
from .rows_config import fill_defaults
from .vision_processor import vision_processor


logger = logging.getLogger(__name__)

PAPER = {
    "title": "Understanding Alignment in Multimodal LLMs: A Comprehensive Study",
    "id": "2407.02477",
    "citation": """\
@article{amirloo2024understanding,
    title   = {{Understanding Alignment in Multimodal LLMs: A Comprehensive Study}},
    author  = {Amirloo, Elmira and others},
    year    = {2024},
    journal = {arXiv preprint arXiv:2407.02477}
}""",
}
SNIPPET = """\
import trl_mm.reward.models  # makes the class below known
from PIL import Image
from transformers import AutoModelForSequenceClassification, AutoProcessor

model = AutoModelForSequenceClassification.from_pretrained({name}, num_labels=1, dtype="auto", device_map="auto")
processor = AutoProcessor.from_pretrained({name})
question = [{{"type": "image"}}, {{"type": "text", "text": "What is the man doing?"}}]
answer = [{{"type": "text", "text": "He is cutting a pepper."}}]
text = processor.apply_chat_template(
    [{{"role": "user", "content": question}}, {{"role": "assistant", "content": answer}}]
)
inputs = processor(text=text, images=Image.open("image.jpg"), return_tensors="pt").to(model.device, model.dtype)
print(model(**inputs).logits.item())"""


class MMRewardTrainer(MMTrainer, GroupsByLength, RewardTrainer):
    """
    The only change w.r.t. [`~trl.RewardTrainer`] is that the model sees the images, which TRL leaves out without a
    word: it is the backbone of a vision-language model with a score on top (see `trl_mm.reward.models`). Besides, rows
    are checked before training as in [`MMDPOTrainer`], both answers of a pair share one computation of their prompt
    (`prefix_sharing`), and parts of the model can be frozen, or trained at a rate of their own. The loss is TRL's,
    with its `margin` column and `center_rewards_coefficient`. An evaluation has more metrics (see
    `trl_mm.reward.measures`), and its `eval_accuracy` is that of the rows, where TRL's is a mean over batches of
    different sizes.

    Args:
        model (`str` or [`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]):
            Vision-language model whose backbone is trained, or a reward model.
        args ([`MMRewardConfig`] or [`~trl.RewardConfig`], *optional*):
            Training arguments. A plain `RewardConfig` is taken with the defaults of `MMRewardConfig` for what it
            lacks; its `max_length` is kept.
        data_collator (`Callable`, *optional*):
            Collator of preference rows. Defaults to [`PreferenceCollator`].
        train_dataset (`datasets.Dataset`):
            Rows with `images`, `prompt`, `chosen`, `rejected` and, if there is one, a `margin`.
        eval_dataset (`datasets.Dataset` or `dict[str, datasets.Dataset]`, *optional*):
            Rows for evaluation.
        processing_class ([`~transformers.ProcessorMixin`], *optional*):
            Processor of the model. Loaded from the model's id if it is not given.
        compute_metrics, callbacks, **kwargs:
            As in [`~trl.RewardTrainer`]. A [`~peft.LoraConfig`] without `target_modules` adapts the language model
            only; the score is trained and saved with it.

    Raises:
        ValueError: a row cannot be trained on (the message names file, row and cure), or `model` is no vision-language
            model, or one with more than one label.
        TypeError: `processing_class` is no processor of a vision-language model.
    """

    _tag_names = ["trl", "trl-mm", "reward-trainer"]
    _paper = PAPER
    ref_model = None
    card_snippet = SNIPPET

    def __init__(
        self,
        model: str | PreTrainedModel | PeftModel,
        args: RewardConfig | None = None,
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
            args = MMRewardConfig(f"{model_id.split('/')[-1]}-Reward")
        fill_defaults(args, MMRewardConfig)
        check_given_models(model=model)
        check_optimizer(args, kwargs.get("optimizers"))
        reentrant = (args.gradient_checkpointing_kwargs or {}).get("use_reentrant")
        if args.ddp_find_unused_parameters is None and not reentrant:
            args.ddp_find_unused_parameters = True  # as in TRL's DPO: LLaVA leaves out the last vision layers
        processor = vision_processor(model_id, args, processing_class)
        self.fit_report: dict[str, FitReport] = {}
        self.evaluations: dict[str, dict[str, Any]] = {}  # what was measured last on each dataset
        self._judged_pairs: list[list[float]] = []  # of the evaluation that is under way
        self._answer_lengths: torch.Tensor | None = None  # (2 * B,) of the batch at hand, in tokens
        self.keeps_layout_of_trl = None  # or the reason why
        if data_collator is not None:
            self.keeps_layout_of_trl = "a `data_collator` of your own may return the images once for each answer"
        self.pair_collator = data_collator or PreferenceCollator(
            processor, args.max_length, pad_to_multiple_of=args.pad_to_multiple_of
        )
        kwargs["peft_config"] = with_score(with_targets(kwargs.get("peft_config"), model, args))
        kwargs = skip_quantizing_saved_modules(kwargs, kwargs["peft_config"])
        args.model_init_kwargs = skip_quantizing_saved_modules(args.model_init_kwargs, kwargs["peft_config"])
        super().__init__(
            model,
            args=args,
            data_collator=self._collated,
            train_dataset=self._checked(train_dataset, processor, args, "train"),
            eval_dataset=self._checked(eval_dataset, processor, args, "eval"),
            processing_class=processor.tokenizer,  # all that TRL asks of it
            compute_metrics=compute_metrics,
            callbacks=callbacks,
            **kwargs,
        )
        self.processing_class = self.callback_handler.processing_class = processor
        self.prepare_parts()

    def prepare_parts(self) -> None:
        super().prepare_parts()
        if can_share_prefixes(self, self.keeps_layout_of_trl):
            self.pair_collator.images_per_prompt = True  # type: ignore[union-attr]  # no collator of the user's own
            self.pair_collator.images_per_group = True  # type: ignore[union-attr]
            (model,) = bare_models(self)
            share_scored_prefixes(model)
        self._dummy_image = dummy_image(self)

    def _checked(self, dataset, processor, args, name):
        if isinstance(dataset, Dataset) and "margin" in dataset.column_names:
            missing = sum(margin is None for margin in dataset["margin"])
            if missing:
                logger.warning(
                    f"{missing:,} rows of the {name} dataset have no `margin`, as those of a mixture in which only "
                    "some have one: it is 0 there. Remove the column to train without."
                )
        return checked_rows(dataset, processor, args, PREFERENCE_COLUMNS, self.fit_report, name, args.max_length)

    def _prepare_dataset(self, dataset, processing_class, args, dataset_name):
        # Checked already, but for one that `evaluate` is given; the collator tokenizes
        if dataset_name in self.fit_report or f"eval_{dataset_name}" in self.fit_report:
            return dataset
        return self._checked(dataset, self.processing_class, args, dataset_name)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        if not self.model.training:
            lengths = [] if self._answer_lengths is None else self._answer_lengths.float().chunk(2)
            chosen, rejected = outputs.logits.detach().float().squeeze(-1).chunk(2)
            pairs = torch.stack([chosen - rejected, *lengths], dim=1)  # (B, 1 or 3)
            self._judged_pairs += self.accelerator.gather_for_metrics(pairs).tolist()
        return (loss, outputs) if return_outputs else loss

    def evaluation_loop(self, *args, metric_key_prefix="eval", **kwargs):
        self._judged_pairs = []
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)
        pairs, self._judged_pairs = self._judged_pairs, []
        if pairs:
            lengths = [(chosen, rejected) for _, chosen, rejected in pairs] if len(pairs[0]) == 3 else None
            measures = measure_pairs([pair[0] for pair in pairs], lengths)
            self.evaluations[metric_key_prefix.removeprefix("eval_")] = measures
            self._metrics["eval"].update({name: [value] for name, value in metrics_of(measures).items()})
        return output

    def evaluation_tables(self) -> list[Table]:
        """What was measured last on each dataset, as tables; they are in the card, too."""
        return evaluation_tables(self.evaluations)

    def log(self, logs, start_time=None):
        # TRL calls the metrics of every evaluation `eval_accuracy`, whichever of several datasets it is of
        name = next((key[5:-5] for key in logs if key.startswith("eval_") and key.endswith("_loss")), "")
        if name and not self.model.training:
            named = {f"{name}_{key}": values for key, values in self._metrics["eval"].items()}
            self._metrics["eval"].clear()
            self._metrics["eval"].update(named)
        super().log(logs, start_time)

    def _collated(self, rows):
        batch = self.pair_collator(rows)
        if "margin" in rows[0]:
            margins = [0.0 if row["margin"] is None else row["margin"] for row in rows]
            batch["margin"] = torch.tensor(margins, dtype=torch.float32)  # (B,)
        return batch

    def _prepare_inputs(self, inputs):
        sizes = inputs.pop(PACKED_SIZES, None)
        if self._dummy_image is not None:
            inputs = self._dummy_image.added_to(inputs)
        inputs = super()._prepare_inputs(inputs)
        answers = inputs.get("completion_mask")
        self._answer_lengths = None if answers is None else answers.sum(1)
        padding = self.accelerator.reduce(1 - inputs["attention_mask"].float().mean(), reduction="mean")
        self._metrics["train" if self.model.training else "eval"]["padding"].append(padding.item())
        if not getattr(self.pair_collator, "images_per_prompt", False):
            inputs.pop("completion_mask", None)  # the plain forward takes none
        if sizes is not None:
            shared = self.accelerator.reduce(
                spared(sizes)["shared_tokens"].to(inputs["input_ids"].device), reduction="mean"
            )
            self._metrics["train" if self.model.training else "eval"]["shared_tokens"].append(shared.item())
        return inputs


def with_score(peft_config):
    """A LoRA configuration that trains and saves the score, too, as PEFT does for this task; others as they are."""
    return replace(peft_config, task_type="SEQ_CLS") if isinstance(peft_config, LoraConfig) else peft_config
