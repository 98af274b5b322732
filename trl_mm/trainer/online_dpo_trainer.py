"""Online-DPO and Mixed-DPO that look at the image."""

import logging
import random
from collections import defaultdict

import torch
from transformers import set_seed
from transformers.integrations import is_deepspeed_zero3_enabled
from trl.models.utils import disable_gradient_checkpointing
from trl.trainer.utils import add_fused_lm_head, create_model_from_path, get_config_model_id

from ..data.images import with_open_images
from ..data.protocols import JudgeUnavailable, is_judge, judge_name
from ..data.rows import PREFERENCE_COLUMNS
from ..data.seeds import derived_seed
from ..generation.answers import sample_answers
from ..generation.completer import image_token_ids
from ..tokens.collator import PreferenceCollator
from .mm_trainer import MMTrainer, check_given_models
from .on_policy.completions_log import CompletionsLog
from .on_policy.pair_losses import pair_loss, pair_metrics
from .on_policy.ranking import ranked_by_judge, ranked_by_rewards
from .on_policy.verdict_watch import VerdictWatch
from .on_policy.vllm import check_prompts, vllm_answers
from .online_dpo_config import MMOnlineDPOConfig
from .parts.lora_targets import with_targets
from .parts.parameter_groups import check_optimizer
from .parts.quantization import skip_quantizing_saved_modules
from .prefix_sharing.enable import bare_models, dummy_image, enable_prefix_sharing
from .row_checks import checked_rows, prompts_are_text
from .rows_config import fill_defaults
from .trl_online_dpo import OnlineDPOTrainer
from .unwrapped_policy import check_generation, generation_model
from .vision_processor import vision_processor


logger = logging.getLogger(__name__)


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

    def __init__(
        self,
        model,
        ref_model=None,
        reward_funcs=None,
        args=None,
        data_collator=None,
        train_dataset=None,
        eval_dataset=None,
        processing_class=None,
        reward_processing_classes=None,
        peft_config=None,
        *,
        judge=None,
        **kwargs,
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
        self.fit_report = {}
        check_optimizer(args, kwargs.get("optimizers"))
        peft_config = with_targets(peft_config, model, args)
        if isinstance(model, str):
            model, ref_model = self._loaded(model, ref_model, args, peft_config)
        self.pair_collator = PreferenceCollator(processing_class, self._longest(args))
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
        self.stats = {}  # TRL's metrics, which it averages on its own; ours are in `_metrics`
        self._metrics = {"train": defaultdict(list), "eval": defaultdict(list)}
        self._warn_of_long_prompts()
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

    def _longest(self, args):
        return args.max_length if isinstance(args, MMOnlineDPOConfig) else None

    def _checked(self, dataset, processor, args, name):
        needs = PREFERENCE_COLUMNS if self.offline_probability > 0 else ("images", "prompt")
        return checked_rows(dataset, processor, args, needs, self.fit_report, name, self._longest(args))

    def _warn_of_long_prompts(self):
        for name, report in self.fit_report.items():
            if report.max_length is None or self.offline_probability == 1:
                continue
            room = report.max_length - report.kept.prompt
            wanted = self.args.max_new_tokens
            if (count := int((room < wanted).sum())) > 0:
                logger.warning(
                    f"The prompts of {count} rows of the {name} dataset leave fewer than `max_new_tokens` ({wanted}) "
                    f"of `max_length` ({report.max_length}): longer answers are cut before they are scored. Raise "
                    f"`max_length` to {wanted + report.kept.prompt.max()}."
                )

    def training_step(self, model, inputs, num_items_in_batch=None):
        # TRL's step samples, ranks and computes the loss in one piece; that of transformers calls the parts below
        try:
            return super(OnlineDPOTrainer, self).training_step(model, inputs, num_items_in_batch)
        except JudgeUnavailable:
            self._save_checkpoint(self.model_wrapped, trial=None)
            raise

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad():
            loss = self.compute_loss(model, inputs)
        return loss.detach(), None, None

    def _prepare_inputs(self, inputs):
        rows = [with_open_images(row) for row in inputs["rows"]]
        pairs, weights, is_sampled = self._make_pairs(rows)
        batch = self.pair_collator(pairs)
        images = image_token_ids(self.model.config, self.processing_class)
        check_prompts(batch, [pair.get("vllm_prompt") for pair in pairs], images)
        batch["weights"], batch["is_sampled"] = torch.tensor(weights), torch.tensor(is_sampled)  # (B,)
        if self._dummy_image is not None:
            batch = self._dummy_image.added_to(batch)
        return super()._prepare_inputs(batch)

    def _make_pairs(self, rows):
        """Pairs for the collator, their weights, and which of them were sampled."""
        step = self.state.global_step if self.model.training else "eval"
        is_sampled = [not self._trains_on_stored(row, step) for row in rows]
        online = [row for row, sampled in zip(rows, is_sampled, strict=True) if sampled]
        answers, vllm_prompts = self._sample(online, step) if self.offline_probability < 1 else ([], [])
        ranking = self._rank(online, answers)
        self._record(
            {
                **ranking.metrics,
                "offline_rate": (len(rows) - len(online), len(rows)),
                "completions/mean_length": (sum(len(ids) for pair in answers for ids in pair), 2 * len(answers)),
            }
        )
        if self._watch is not None:
            self._watch.see(ranking)
        if self._completions is not None:
            self._completions.keep(online, ranking)
        sampled = iter(zip(answers, ranking.choices, vllm_prompts, strict=True))
        pairs, weights = [], []
        for row, was_sampled in zip(rows, is_sampled, strict=True):
            if was_sampled:
                ids, choice, vllm_prompt = next(sampled)
                answer = [{"role": "assistant", "content": "."}]  # for the chat template; the ids take its place
                ids = ids[::-1] if choice == 1 else ids
                row = {**row, "chosen": answer, "rejected": answer, "answer_ids": ids, "vllm_prompt": vllm_prompt}
            pairs.append(row)
            weights.append(1.0 if not was_sampled or choice is not None else 0.0)
        return pairs, weights, is_sampled

    def _trains_on_stored(self, row, step):
        """Draw α ~ Bernoulli(p) for a row in a step (eq. 4)."""
        if self.offline_probability in (0, 1):
            return self.offline_probability == 1
        seed = derived_seed("offline", self.args.seed, step, row["row_id"])
        return random.Random(seed).random() < self.offline_probability

    def _sample(self, rows, step):
        """
        Two answers to each row (`list[list[list[int]]]`), as token ids up to and with the EOS token, and the prompts
        as vLLM read them, or `None`. Every process has to come, rows or not: together they gather the weights.
        """
        seeds = [("online", self.args.seed, step, row["row_id"]) for row in rows]
        if self.use_vllm:
            return vllm_answers(self, rows, seeds)
        with generation_model(self) as model, self.accelerator.autocast():
            answers = sample_answers(model, self.processing_class, rows, self.generation_config, seeds) if rows else []
        return answers, [None] * len(rows)

    def _rank(self, rows, answers):
        ended = [[ids[-1] in self.eos_token_ids for ids in pair] for pair in answers]
        texts = [[self._tokenizer.decode(ids, skip_special_tokens=True) for ids in pair] for pair in answers]
        if self.judge is None:
            ranking = ranked_by_rewards(self, rows, answers, texts, ended)
        else:
            ranking = ranked_by_judge(self, rows, texts)
        ranking.metrics["val/contain_eos_token"] = (sum(map(sum, ended)), 2 * len(ended))
        return ranking

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        inputs = dict(inputs)
        weights, is_sampled, mask = (inputs.pop(name) for name in ("weights", "is_sampled", "completion_mask"))
        labels = inputs["input_ids"].masked_fill(mask == 0, -100)
        mask = mask[:, 1:]  # (2B, L - 1)

        def log_probs(model):
            outputs = model(**inputs, labels=labels, fused_lm_head=True, use_cache=False)
            return outputs.log_probs * mask  # (2B, L - 1)

        with self.accelerator.autocast():
            policy = log_probs(model)
            with torch.no_grad(), disable_gradient_checkpointing(self.model, self.args.gradient_checkpointing_kwargs):
                if self.ref_model is not None:
                    reference = log_probs(self.ref_model)
                else:
                    with self.model.disable_adapter():
                        reference = log_probs(self.model)
        loss = pair_loss(self.args.loss_type, (policy - reference).sum(1), mask.sum(1), weights, self.beta)
        self._record(pair_metrics(policy.detach(), reference, weights, is_sampled, self.beta))
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


def check_ranking(judge, reward_funcs, offline_probability, missing_eos_penalty):
    """Refuse what cannot rank answers."""
    if judge is not None and reward_funcs is not None:
        raise ValueError("Answers are ranked by `judge` or by `reward_funcs`. Pass one of them.")
    if judge is None and reward_funcs is None and offline_probability < 1:
        raise ValueError(
            "Sampled answers have to be ranked. Pass `judge`, such as a `PairwiseVLMJudge`, or `reward_funcs`."
        )
    if judge is not None and not is_judge(judge):
        raise TypeError(
            "`judge` must have a method `judge(prompts, images, answer_pairs)`, or be a function of these, got "
            f"{judge_name(judge)}. Functions that give each answer a reward are `reward_funcs`."
        )
    if judge is not None and missing_eos_penalty is not None:
        raise ValueError("`missing_eos_penalty` is taken from rewards, and a judge gives none. Leave it out.")
