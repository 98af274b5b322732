"""RLOO that looks at the image, and pays for it once."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from peft import PeftConfig, PeftModel
from transformers import (
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ProcessorMixin,
    TrainerCallback,
)
from trl import RLOOConfig, RLOOTrainer
from trl.trainer.utils import get_config_model_id

from ..data.rows import message_text
from ..generation.completer import image_token_ids
from ..reward.scorer import RewardModel
from ..tokens.fit_report import FitReport
from .image_rewards import with_images
from .mm_trainer import MMTrainer, check_given_models
from .on_policy.epoch_sampler import EpochRepeatSampler
from .on_policy.kept_rollout import file_of, keep_rollout, kept_step, kept_steps
from .on_policy.rollout import Rollout, new_rollout, steps_of
from .on_policy.unwrapped_policy import check_generation
from .parts.lora_targets import with_targets
from .parts.parameter_groups import check_optimizer
from .parts.quantization import skip_quantizing_saved_modules
from .prefix_sharing.enable import bare_models, can_share_prefixes, dummy_image
from .prefix_sharing.shared_forward import share_prefixes
from .prompt_room import context_of, rows_with_room
from .reward_scale import check_answers, normalize_rewards
from .rloo_config import MMRLOOConfig, check_generation_batch, check_template_settings
from .rollouts import Rollouts
from .row_checks import checked_rows, prompts_are_text
from .rows_config import fill_defaults
from .vision_processor import vision_processor


RewardFunction: TypeAlias = str | PreTrainedModel | Callable[..., Any]


class MMRLOOTrainer(MMTrainer, Rollouts, RLOOTrainer):
    """
    The only change w.r.t. [`~trl.RLOOTrainer`] is what a prompt costs and who sees its images: it is rendered and its
    images are processed once for all answers to it, they are sampled from one computation of it, and the policy, the
    policy that sampled and the reference read it once, with the answers as branches (`prefix_sharing`); a reward model
    sees the images, which TRL leaves out without a word. Besides, rows are checked before training as in
    [`MMDPOTrainer`]; samples derive from the seed, the step, `row_id` and their number (not with vLLM); no image token
    is sampled, by vLLM neither; answers to one prompt stay together when a generation batch is split into steps; and
    parts of the model can be frozen, or trained at a rate of their own. Rewards, advantages, losses and metrics are
    TRL's for the same samples.

    A batch that the loss reads has `prompt_ids` and `prompt_mask`, `(N, P)`, padded on the left, `completion_ids` and
    `completion_mask`, `(N, T)`, padded on the right, `old_logps`, `advantages` and `rewards`, `(N,)`, the last before
    the penalty for the KL divergence, and its `rollout`, a [`Rollout`] with each prompt and its images once. If
    `keeps_token_log_probs`, which a subclass sets, it has `old_token_log_probs` and, with `beta` above 0,
    `ref_token_log_probs`, `(N, T)`, too. [`MMRLOOTrainer.lay_out`] makes of it what a model reads, and
    [`MMRLOOTrainer.score`] the log-probabilities of its answers.

    Args:
        model (`str` or [`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]):
            Vision-language model to train.
        reward_funcs (`Callable` or `str` or [`~transformers.PreTrainedModel`] or `list`):
            Reward functions, as in TRL. A model, or the id or path of one, is a model of [`MMRewardTrainer`].
        args ([`MMRLOOConfig`] or [`~trl.RLOOConfig`], *optional*):
            Training arguments. A plain `RLOOConfig` is taken with the defaults of `MMRLOOConfig` for what it lacks;
            there is no `max_length` then, as in TRL.
        train_dataset (`datasets.Dataset`):
            Rows with `images` (lists; or `image`) and `prompt`, and with what the reward functions look at.
        eval_dataset (`datasets.Dataset` or `dict[str, datasets.Dataset]`, *optional*):
            Rows for evaluation.
        processing_class ([`~transformers.ProcessorMixin`], *optional*):
            Processor of the model. Loaded from the model's id if it is not given.
        reward_processing_classes ([`~transformers.ProcessorMixin`] or `list`, *optional*):
            Processors of the reward models.
        callbacks, optimizers, quantization_config, peft_config:
            As in [`~trl.RLOOTrainer`]. A [`~peft.LoraConfig`] without `target_modules` adapts the language model only.

    Raises:
        ValueError: a row cannot be trained on (the message names file, row and cure), `model` is no vision-language
            model, or a reward model does not see images, has more than one label or no trained score.
        TypeError: `processing_class` is no processor of a vision-language model.
    """

    _tag_names = ["trl", "trl-mm", "rloo"]
    keeps_token_log_probs = False

    def __init__(
        self,
        model: str | PreTrainedModel | PeftModel,
        reward_funcs: RewardFunction | list[RewardFunction],
        args: RLOOConfig | None = None,
        train_dataset: Dataset | None = None,
        eval_dataset: Dataset | Mapping[str, Dataset] | None = None,
        processing_class: ProcessorMixin | None = None,
        reward_processing_classes: PreTrainedTokenizerBase | list[PreTrainedTokenizerBase] | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple[torch.optim.Optimizer | None, torch.optim.lr_scheduler.LambdaLR | None] = (None, None),
        quantization_config: BitsAndBytesConfig | None = None,
        peft_config: PeftConfig | None = None,
    ):
        model_id = model if isinstance(model, str) else get_config_model_id(model.config)
        if args is None:
            args = MMRLOOConfig(f"{model_id.split('/')[-1]}-RLOO")
        if not isinstance(args, MMRLOOConfig):
            args.max_length = None
        fill_defaults(args, MMRLOOConfig)
        check_given_models(model=model)
        check_template_settings(args)
        check_optimizer(args, optimizers)
        processor = vision_processor(model_id, args, processing_class)
        self.fit_report: dict[str, FitReport] = {}
        self.prompts_are_text = prompts_are_text(train_dataset)
        loading = args.model_init_kwargs or {}
        self._context = context_of(model, args.trust_remote_code, loading.get("revision"))
        peft_config = with_targets(peft_config, model, args)
        quantized = skip_quantizing_saved_modules({"quantization_config": quantization_config}, peft_config)
        args.model_init_kwargs = skip_quantizing_saved_modules(args.model_init_kwargs, peft_config)
        train_dataset = self._checked(train_dataset, processor, args, "train")
        if args.normalize_rewards and train_dataset is not None:
            check_answers(train_dataset)
        check_generation_batch(args, train_dataset)
        eval_dataset = self._checked(eval_dataset, processor, args, "eval")
        super().__init__(
            model,
            with_images(reward_funcs, reward_processing_classes, loading),
            args=args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processor,
            callbacks=callbacks,
            optimizers=optimizers,
            quantization_config=quantized["quantization_config"],
            peft_config=peft_config,
        )
        for function in self.reward_funcs:
            if isinstance(function, RewardModel) and not hasattr(function.model, "hf_device_map"):
                function.model.to(self.accelerator.device)
        if args.normalize_rewards:
            self.reward_funcs = normalize_rewards(self, self.reward_funcs, self.reward_func_names)
        if args.missing_eos_penalty is not None:
            self._add_missing_eos_penalty(args.missing_eos_penalty)
        self._rollout: Rollout | None = None  # of the samples that a model reads next
        self._kept_rollout: Path | None = None  # file of the one that training resumes with
        self.prepare_parts()
        self._shares_prefixes = can_share_prefixes(self)
        if self._shares_prefixes:
            for bare in bare_models(self):
                share_prefixes(bare)
        self._dummy_image = dummy_image(self)
        self._image_tokens = image_token_ids(self.model.config, processor)
        if self.use_vllm:
            self._ban_image_tokens()
        check_generation(self)

    def _checked(self, dataset, processor, args, name):
        rows = checked_rows(dataset, processor, args, ("images", "prompt"), self.fit_report, name, None)

        def with_room(part, name):
            report = self.fit_report[name]
            return rows_with_room(
                part, report, args.max_completion_length, args.max_length, self._context, args.overlong
            )

        if isinstance(rows, dict):
            return {key: with_room(part, f"{name}_{key}") for key, part in rows.items()}
        return None if rows is None else with_room(rows, name)

    def _add_missing_eos_penalty(self, penalty: float) -> None:
        """A reward function of our own, behind the others."""
        ends = set(self.eos_token_ids)

        def missing_eos(completion_ids: list[list[int]], **columns: Any) -> list[float]:
            return [0.0 if ids[-1] in ends else -penalty for ids in completion_ids]

        self.reward_funcs.append(missing_eos)
        self.reward_func_names.append(missing_eos.__name__)
        self.reward_processing_classes.append(None)
        self.reward_weights = torch.cat([self.reward_weights, torch.ones(1)])

    def _ban_image_tokens(self) -> None:
        settings = dict(self.args.generation_kwargs or {})
        banned = [self.processing_class.tokenizer.convert_ids_to_tokens(token) for token in self._image_tokens]
        settings["bad_words"] = [*settings.get("bad_words", []), *banned]
        self.vllm_generation.generation_kwargs = settings

    def _get_train_sampler(self, dataset=None):
        theirs = super()._get_train_sampler(dataset)
        names = ("mini_repeat_count", "batch_size", "repeat_count", "shuffle", "seed")
        settings = {name: getattr(theirs, name) for name in names}
        return EpochRepeatSampler(theirs.data_source, lambda: int(self.state.epoch or 0), **settings)

    def _prepare_inputs(self, generation_batch):
        if not self.model.training:
            return self._generate_and_score_completions(generation_batch)
        per_generation = self.args.steps_per_generation
        if self._kept_rollout is not None:
            self._buffered_inputs = self._resumed(generation_batch, self._kept_rollout)
            self._kept_rollout = None
        if self._step % (per_generation * self.num_iterations) == 0 or self._buffered_inputs is None:
            batch = self._generate_and_score_completions(generation_batch)
            seed = ("order", self.args.seed, self.state.global_step, self.accelerator.process_index)
            self._buffered_inputs = steps_of(batch, per_generation, seed)
        return self._buffered_inputs[self._step % per_generation]

    def _new_rollout(self, inputs):
        num_generations = self.num_generations if self.model.training else self.num_generations_eval
        first = self.accelerator.process_index * len(inputs)
        return new_rollout(inputs, self.processing_class, first, num_generations)

    def _save_rng_state(self, output_dir):
        super()._save_rng_state(output_dir)
        # Answers that were sampled by an earlier policy cannot be sampled again
        if self._step % (self.args.steps_per_generation * self.num_iterations):
            keep_rollout(file_of(output_dir, self.args.process_index), self._buffered_inputs, self._step)

    def _load_rng_state(self, checkpoint):
        super()._load_rng_state(checkpoint)
        if checkpoint is not None:
            path = file_of(checkpoint, self.args.process_index)
            steps = gather_object([kept_step(path)])  # 0 for processes that there were not when it was saved
            self._step = max(steps)
            self._kept_rollout = path if all(steps) else None

    def _resumed(self, inputs, path):
        steps = kept_steps(path, self._new_rollout(inputs), self.accelerator.device)
        # Where one process samples anew, all have to: their rewards are compared
        return steps if all(gather_object([steps is not None])) else None

    def _generate_and_score_completions(self, inputs):
        rollout = self._rollout = self._new_rollout(inputs)
        # Without images TRL neither processes them again nor has the model read them: the rollout has them
        output = super()._generate_and_score_completions([{"prompt": row["prompt"]} for row in inputs])
        if self.log_completions and self.log_multimodal:
            self._log_images(rollout)
        output["rewards"] = rollout.rewards
        if self.keeps_token_log_probs:
            names = ("old_token_log_probs", "ref_token_log_probs")
            output.update(zip(names, rollout.log_probs, strict=False))
        rollout.log_probs, rollout.rewards = [], None
        return {**output, "rollout": rollout}

    def _tokenize_prompts(self, prompts):
        ids = [prompt["input_ids"][0].tolist() for prompt in self._rollout.prompts]
        return [ids[number] for number in self._rollout.numbers], None, {}

    def _generate_single_turn(self, prompt_ids, images, multimodal_fields):
        if self.use_vllm:
            rows = self._rollout.columns()
            images = [row["images"] or None for row in rows] if any(row["images"] for row in rows) else None
            return super()._generate_single_turn(prompt_ids, images, {})
        return self.sample(self._rollout)

    def _get_per_token_logps_and_entropies(
        self,
        model,
        input_ids,
        attention_mask,
        logits_to_keep,
        batch_size=None,
        compute_entropy=False,
        compute_aux_loss=False,
        **images,
    ):
        rollout = self._rollout
        completion_ids, mask = input_ids[:, -logits_to_keep:], attention_mask[:, -logits_to_keep:]
        parts = []
        for samples in self.parts_of(rollout, batch_size or len(input_ids)):
            part = rollout.of(samples)
            parts.append(self.score(model, part, completion_ids[samples], mask[samples], compute_aux_loss))
        log_probs, entropies, aux_losses = zip(*parts, strict=True)
        if not compute_entropy:  # of the policy that sampled, then of the reference
            rollout.log_probs.append(torch.cat(log_probs))
        return (
            torch.cat(log_probs),
            torch.cat(entropies) if compute_entropy else None,
            torch.stack(aux_losses).mean() if compute_aux_loss else None,
        )

    def _calculate_rewards(self, inputs, prompts, completions, completion_ids_list):
        rollout = self._rollout
        if self.prompts_are_text:  # as in TRL, functions for text get text
            prompts = [message_text(messages[0]) for messages in prompts]
            completions = [message_text(messages[0]) for messages in completions]
        else:
            prompts = rollout.messages()
        rewards = super()._calculate_rewards(rollout.columns(), prompts, completions, completion_ids_list)
        if self.args.missing_eos_penalty is not None:
            rewards[rewards[:, :-1].isnan().all(1), -1] = torch.nan  # no reward to take it from
        totals = self.summed(rewards)
        self._count(totals)
        start = self.accelerator.process_index * len(prompts)
        rollout.rewards = totals[start : start + len(prompts)]
        return rewards

    def _count(self, totals):
        """TRL counts groups of equal rewards less the KL divergence, which are hardly ever equal."""
        training = self.model.training
        groups = totals.view(-1, self.num_generations if training else self.num_generations_eval)  # (B, k)
        metrics = self._metrics["train" if training else "eval"]
        if groups.shape[1] > 1:  # PPO may take one
            equal = (groups == groups[:, :1]).all(1)
            metrics["frac_reward_equal"].append(equal.float().mean().item())
        metrics["frac_reward_missing"].append(groups.isnan().float().mean().item())

    def _compute_loss(self, model, inputs):
        self._rollout = inputs["rollout"]
        return super()._compute_loss(model, inputs)

    def _log_images(self, rollout):
        self._logs["images"].extend(gather_object([row["images"] for row in rollout.columns()]))
