"""Online-DPO and Mixed-DPO that look at the image."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from datasets import Dataset
from peft import PeftConfig, PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase, ProcessorMixin, set_seed
from transformers.integrations import is_deepspeed_zero3_enabled
from trl import DPOTrainer
from trl.trainer import add_fused_lm_head
from trl.trainer.utils import create_model_from_path, get_config_model_id

from ..data.protocols import JudgeUnavailable, PairwiseJudge
from ..data.rows import PREFERENCE_COLUMNS
from ..generation.completer import image_token_ids
from ..tokens.collator import PreferenceCollator
from ..tokens.fit_report import FitReport
from .mm_trainer import MMTrainer, check_given_models
from .on_policy.completions_log import CompletionsLog
from .on_policy.pair_losses import answer_metrics, pair_loss
from .on_policy.ranking import check_ranking
from .on_policy.sampler import OnPolicySampler, warn_of_long_prompts
from .on_policy.unwrapped_policy import check_generation
from .on_policy.verdict_watch import VerdictWatch
from .on_policy.vllm import check_prompts
from .online_dpo_config import MMOnlineDPOConfig
from .parts.lora_targets import with_targets
from .parts.parameter_groups import check_optimizer
from .parts.quantization import skip_quantizing_saved_modules
from .prefix_sharing.enable import bare_models, dummy_image, enable_prefix_sharing
from .row_checks import checked_rows, prompts_are_text
from .rows_config import fill_defaults
from .trl_online_dpo import OnlineDPOConfig, OnlineDPOTrainer
from .vision_processor import vision_processor


RewardFunction: TypeAlias = str | PreTrainedModel | Callable[..., list[float | None]]


class MMOnlineDPOTrainer(MMTrainer, OnlineDPOTrainer):
    """
    The only change w.r.t. [`~trl.experimental.online_dpo.OnlineDPOTrainer`] is the step: `images` are looked at,
    wherever the model runs; both answers to a prompt come from one computation of it, with a KV cache, and are scored
    in one sequence, from the token ids that were sampled; prompts and stored answers have the BOS and EOS tokens
    that the chat template leaves out; a tie, or a verdict that cannot be read, has weight zero instead of counting as
    a win for the first answer; metrics leave out padding; a row trains on its stored pair with `offline_probability`
    (Mixed-DPO); parts of the model can be frozen, or trained at a rate of their own; samples derive from the seed, the
    step and `row_id`, so that they do not depend on the batch; and there is an evaluation. The loss `"ipo"` averages
    over tokens, as [`~trl.DPOTrainer`] does it.

    Args:
        model (`str` or [`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]):
            Vision-language model to train.
        ref_model ([`~transformers.PreTrainedModel`], *optional*):
            Reference model. Defaults to the initial policy.
        reward_funcs (`Callable` or `str` or [`~transformers.PreTrainedModel`] or `list`, *optional*):
            Reward functions, as in TRL: the answer with the higher sum of rewards is chosen. They are called with the
            other columns of the rows too, `images` among them; with text in place of messages if the prompts of
            `train_dataset` are strings.
        judge ([`PairwiseJudge`] or `Callable`, *optional*):
            Says which answer is better; in place of `reward_funcs`. A function is called as `PairwiseJudge.judge` is:
            `judge(prompts, images, answer_pairs)` returns 0, 1 or `None` for each pair.
        args ([`MMOnlineDPOConfig`] or [`~trl.experimental.online_dpo.OnlineDPOConfig`], *optional*):
            Training arguments. A plain `OnlineDPOConfig` is taken with the defaults of `MMOnlineDPOConfig` for what it
            lacks; its `max_length` does not limit rows with images, as in TRL.
        train_dataset (`datasets.Dataset`):
            Rows with `images` (lists; or `image`) and `prompt`, and with `chosen` and `rejected` for Mixed-DPO.
        eval_dataset (`datasets.Dataset` or `dict[str, datasets.Dataset]`, *optional*):
            Rows for evaluation.
        processing_class ([`~transformers.ProcessorMixin`], *optional*):
            Processor of the model. Loaded from the model's id if it is not given.
        **kwargs:
            As in TRL.

    Raises:
        ValueError: there is neither `judge` nor `reward_funcs`, or both; a row cannot be trained on; `model` is no
            vision-language model.
        TypeError: `processing_class` is no processor of a vision-language model, or `judge` is neither a
            [`PairwiseJudge`] nor a function with its arguments.
        JudgeUnavailable: during training, if the judge cannot be reached and `on_judge_failure="error"`. A checkpoint
            is written before.
        ValueError: during training, if the judge gives no readable verdict in `max_steps_without_verdict` steps.
    """

    _tag_names = ["trl", "trl-mm", "online-dpo"]
    loss_is_scaled_for_ga = False
    compute_ref_log_probs = DPOTrainer.compute_ref_log_probs
    ld_alpha = None  # which it reads

    def __init__(
        self,
        model: str | PreTrainedModel | PeftModel,
        ref_model: PreTrainedModel | None = None,
        reward_funcs: RewardFunction | list[RewardFunction] | None = None,
        args: OnlineDPOConfig | None = None,
        data_collator: None = None,
        train_dataset: Dataset | None = None,
        eval_dataset: Dataset | Mapping[str, Dataset] | None = None,
        processing_class: ProcessorMixin | None = None,
        reward_processing_classes: PreTrainedTokenizerBase | list[PreTrainedTokenizerBase] | None = None,
        peft_config: PeftConfig | None = None,
        *,
        judge: PairwiseJudge | Callable[..., Sequence[int | None]] | None = None,
        **kwargs: Any,
    ):
        model_id = model if isinstance(model, str) else get_config_model_id(model.config)
        if args is None:
            args = MMOnlineDPOConfig(f"{model_id.split('/')[-1]}-OnlineDPO")
        fill_defaults(args, MMOnlineDPOConfig)
        self.offline_probability = args.offline_probability
        check_ranking(judge, reward_funcs, self.offline_probability, args.missing_eos_penalty)
        if data_collator is not None:
            raise ValueError("`data_collator` cannot be replaced: answers are sampled after rows are collated.")
        check_given_models(model=model, ref_model=ref_model)
        processing_class = vision_processor(model_id, args, processing_class)
        if args.ddp_find_unused_parameters is None and not (args.gradient_checkpointing_kwargs or {}).get(
            "use_reentrant"
        ):
            # As in `DPOTrainer`: a batch without images leaves the vision part without gradients
            args.ddp_find_unused_parameters = True
        self.judge = judge
        self.prompts_are_text = prompts_are_text(train_dataset)
        self.fit_report: dict[str, FitReport] = {}
        check_optimizer(args, kwargs.get("optimizers"))
        peft_config = with_targets(peft_config, model, args)
        if isinstance(model, str):
            model, ref_model = self._loaded(model, ref_model, args, peft_config)
        self.pair_collator = PreferenceCollator(
            processing_class, args.max_length if isinstance(args, MMOnlineDPOConfig) else None
        )
        super().__init__(
            model,
            ref_model=ref_model,
            reward_funcs=[] if reward_funcs is None else reward_funcs,
            args=args,
            data_collator=as_rows,
            train_dataset=self._checked(train_dataset, processing_class, args, "train"),
            eval_dataset=self._checked(eval_dataset, processing_class, args, "eval"),
            processing_class=processing_class,
            reward_processing_classes=reward_processing_classes,
            peft_config=peft_config,
            **kwargs,
        )
        self.stats: dict[str, Any] = {}  # TRL's metrics, which it averages on its own; ours are in `_metrics`
        self._metrics: dict[str, dict[str, list[float]]] = {"train": defaultdict(list), "eval": defaultdict(list)}
        self.sampler = OnPolicySampler(self)
        if self.offline_probability < 1:
            warn_of_long_prompts(self.fit_report, args.max_new_tokens)
        self._completions = CompletionsLog(self) if args.log_completions else None
        self._watch = None if judge is None else VerdictWatch(self)
        if self._watch is not None:
            self.add_callback(self._watch)
        self.prepare_parts()
        for bare in bare_models(self):
            add_fused_lm_head(bare)
        enable_prefix_sharing(self, self.pair_collator)
        self._dummy_image = dummy_image(self)
        check_generation(self)

    def _loaded(self, model_id, ref_model, args, peft_config):
        """Policy and reference from an id: TRL would take another class for some models, and no copy under ZeRO-3."""
        settings = {"dtype": "auto", "trust_remote_code": args.trust_remote_code, **(args.model_init_kwargs or {})}
        if args.distributed_state.distributed_type in ("MULTI_GPU", "MULTI_CPU", "DEEPSPEED", "FSDP"):
            settings["device_map"] = None
        settings = skip_quantizing_saved_modules(settings, peft_config)
        set_seed(args.seed)
        model = create_model_from_path(model_id, **settings)
        if ref_model is None and peft_config is None and is_deepspeed_zero3_enabled():
            ref_model = create_model_from_path(model_id, **settings).requires_grad_(False)
        args.model_init_kwargs = None  # TRL refuses them beside a model
        return model, ref_model

    def _checked(self, dataset, processor, args, name):
        needs = PREFERENCE_COLUMNS if self.offline_probability > 0 else ("images", "prompt")
        return checked_rows(dataset, processor, args, needs, self.fit_report, name, self.pair_collator.max_length)

    def training_step(self, model, inputs, num_items_in_batch=None):
        # TRL's step samples, ranks and computes the loss in one piece; that of transformers calls the parts below
        try:
            return super(OnlineDPOTrainer, self).training_step(model, inputs, num_items_in_batch)
        except JudgeUnavailable:
            self._save_checkpoint(self.model_wrapped, trial=None)
            raise

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        with torch.no_grad():
            return self.compute_loss(model, self._prepare_inputs(inputs)), None, None

    def _prepare_inputs(self, inputs):
        pairs, metrics = self.sampler(inputs["rows"])
        self._record(metrics)
        for watcher in filter(None, (self._watch, self._completions)):
            watcher.see([pair for pair in pairs if "answer_ids" in pair])
        batch = self.pair_collator(pairs)
        vllm_prompts = [pair.get("vllm_prompt") for pair in pairs]
        check_prompts(batch, vllm_prompts, image_token_ids(self.model.config, self.processing_class))
        batch["weights"] = torch.tensor([pair["weight"] for pair in pairs])
        batch["is_sampled"] = torch.tensor(["answer_ids" in pair for pair in pairs])
        if self._dummy_image is not None:
            batch = self._dummy_image.added_to(batch)
        return super()._prepare_inputs(batch)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        inputs = dict(inputs)
        weights, is_sampled = inputs.pop("weights"), inputs.pop("is_sampled")
        reads = {name: value for name, value in inputs.items() if name != "completion_mask"}
        labels = inputs["input_ids"].masked_fill(inputs["completion_mask"] == 0, -100)
        with self.accelerator.autocast():
            log_probs = model(**reads, labels=labels, fused_lm_head=True, use_cache=False).log_probs  # (2B, T - 1)
        reference = torch.cat(self.compute_ref_log_probs(self.ref_model or self.model, inputs))  # (2B,)
        loss, metrics = pair_loss(self.args.loss_type, self.beta, log_probs, reference, inputs, weights)
        metrics |= answer_metrics(log_probs.detach().sum(1), reference, is_sampled, self.beta)
        self._record({**metrics, "beta": (self.beta, 1)})
        return (loss, {}) if return_outputs else loss

    def _record(self, sums):
        """Put means over all processes into the metrics, from sums and counts, `dict[str, tuple[float, float]]`."""
        dtype = torch.float32 if self.accelerator.device.type == "mps" else torch.float64
        totals = torch.tensor([[float(part) for part in pair] for pair in sums.values()], dtype=dtype)
        totals = self.accelerator.reduce(totals.to(self.accelerator.device), reduction="sum")
        for name, (total, count) in zip(sums, totals.tolist(), strict=True):
            if count:
                self._metrics["train" if self.model.training else "eval"][name].append(total / count)

    def log(self, logs, start_time=None):
        mode = "train" if self.model.training else "eval"
        prefix = "eval_" if mode == "eval" else ""
        means = {name: sum(values) / len(values) for name, values in self._metrics[mode].items()}
        if "objective/scores" in means:
            means["objective/rlhf_reward"] = means["objective/scores"] + means["objective/non_score_reward"]
        logs.update({prefix + name: value for name, value in means.items()})
        if self._completions is not None and mode == "train":
            self._completions.write()
        super().log(logs, start_time)
        self._metrics[mode].clear()


def as_rows(examples):
    """The collator of rows that answers are sampled for."""
    return {"rows": examples}
