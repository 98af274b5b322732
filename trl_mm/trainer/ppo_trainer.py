"""PPO that looks at the image: a policy, a value model and a reward model on one copy of the base."""

from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import set_seed
from datasets import Dataset
from peft import PeftModel, load_peft_weights, set_peft_model_state_dict
from transformers import PreTrainedModel
from transformers.integrations import is_deepspeed_zero3_enabled
from trl.models.utils import disable_gradient_checkpointing
from trl.trainer.utils import disable_dropout_in_model, get_config_model_id

from .adapter_reward import on_the_base
from .on_policy.advantages import generalized_advantages, token_rewards, whitened
from .on_policy.ppo_losses import policy_loss, step_metrics, value_loss
from .on_policy.rollout import Rollout, whole_groups
from .ppo_config import MMPPOConfig
from .prefix_sharing.enable import bare_models
from .prefix_sharing.shared_values import add_values, token_values
from .rloo_trainer import MMRLOOTrainer, RewardFunction
from .rows_config import fill_defaults
from .shared_base import check_trains_adapters, checked_adapter, new_value_model, reward_adapter


PAPER = {
    "title": "Proximal Policy Optimization Algorithms",
    "id": "1707.06347",
    "citation": """\
@article{schulman2017proximal,
    title   = {{Proximal Policy Optimization Algorithms}},
    author  = {John Schulman and Filip Wolski and Prafulla Dhariwal and Alec Radford and Oleg Klimov},
    year    = {2017},
    journal = {arXiv preprint arXiv:1707.06347}
}""",
}
VALUE = "value"  # folder of the value model within that of the policy, and of a checkpoint


class MMPPOTrainer(MMRLOOTrainer):
    """
    The only changes w.r.t. [`MMRLOOTrainer`] are advantages and loss, which are those of PPO, and the value model that
    they need. Each token has an advantage by GAE, from rewards of tokens (the KL divergence at each, the score at the
    last) and values of tokens; the loss clips ratios of tokens, and how far values go. Values are read where
    log-probabilities are, from the same packed layout.

    The policy trains LoRA adapters. The value model, and a reward model that is given as the folder of LoRA adapters
    on the policy's base, have adapters of their own over the same base weights, which are in memory once; without
    adapters they are the reference. The value model is saved in the folder `value` beside the policy's adapters, in
    the form of a reward model.

    Args:
        model, reward_funcs, train_dataset, **kwargs:
            As in [`MMRLOOTrainer`]. LoRA is a must: a `peft_config`, or a [`~peft.PeftModel`].
        args ([`MMPPOConfig`], *optional*):
            Training arguments.

    Raises:
        ValueError: as in [`MMRLOOTrainer`]; the policy trains no adapters; weights are spread over processes; or the
            adapters of a reward model are of another base, have no trained score, or one of several labels.
    """

    _tag_names = ["trl", "trl-mm", "ppo"]
    _name = "PPO"
    _paper = PAPER
    keeps_token_log_probs = True
    value_model: PeftModel

    def __init__(
        self,
        model: str | PreTrainedModel | PeftModel,
        reward_funcs: RewardFunction | list[RewardFunction],
        args: MMPPOConfig | None = None,
        train_dataset: Dataset | None = None,
        **kwargs: Any,
    ):
        base = base_of(model)
        if args is None:
            args = MMPPOConfig(f"{base.split('/')[-1]}-PPO")
        fill_defaults(args, MMPPOConfig)
        check_trains_adapters(isinstance(model, PeftModel) or kwargs.get("peft_config") is not None)
        self._value_adapter = None if args.value_adapter is None else checked_adapter(args.value_adapter, base)
        functions = on_the_base(reward_funcs, base, self)
        super().__init__(model, functions, args, train_dataset, **kwargs)
        (bare,) = bare_models(self)
        add_values(bare, self.value_model, self._shares_prefixes)

    def prepare_parts(self) -> None:
        if self.is_fsdp_enabled or (self.is_deepspeed_enabled and is_deepspeed_zero3_enabled()):
            raise ValueError(
                "PPO needs the base whole on each GPU: its adapters have modules of their own around one copy of it, "
                "which FSDP and ZeRO-3 would split more than once. Use DDP, ZeRO-1 or ZeRO-2."
            )
        set_seed(self.args.seed)  # new adapters are random: the same ones in all processes, whatever the rewards are
        if self._value_adapter is None:
            value_model = new_value_model(self.model)
        else:
            value_model = reward_adapter(self.model, self._value_adapter, trainable=True)
        set_seed(self.args.seed, device_specific=True)  # as TRL leaves it
        self._value_adapter = None
        if self.args.disable_dropout:
            disable_dropout_in_model(value_model)
        if self.args.gradient_checkpointing:
            value_model.enable_input_require_grads()
            value_model.gradient_checkpointing_enable(self.args.gradient_checkpointing_kwargs)
        # On the policy, as one forward of it has to return values, too: see `shared_values.py`
        self.model.value_model = self.value_model = value_model
        super().prepare_parts()

    def _generate_and_score_completions(self, inputs):
        output = super()._generate_and_score_completions(inputs)
        mask, old, scores = output["completion_mask"], output["old_token_log_probs"], output["rewards"]
        # An answer without a reward says nothing: neither of the policy nor of the values
        mask = mask.bool() & ~scores.isnan()[:, None]
        log_ratios = old - output["ref_token_log_probs"] if self.beta else torch.zeros_like(old)
        values = self.values(output["rollout"], output["completion_ids"], output["completion_mask"])
        rewards = token_rewards(scores.nan_to_num(), log_ratios, mask, self.beta)
        self._count_rewards(rewards, scores, log_ratios, old, mask)
        if self.args.whiten_rewards:
            rewards = whitened(rewards, mask, shift_mean=False, total=self._total)
        advantages, returns = generalized_advantages(rewards, values, mask, self.args.gamma, self.args.lam)
        parts = self.accelerator.num_processes * (self.args.steps_per_generation if self.model.training else 1)
        count = self._total(mask.sum().float()) / parts
        return {
            **output,
            "loss_mask": mask,
            "values": values,
            "returns": returns,
            "advantages": whitened(advantages, mask, total=self._total),
            # A token weighs the same in whichever step and process it is
            "tokens_per_step": count.clamp(min=1).expand(len(mask)),
        }

    def values(self, rollout: Rollout, completion_ids: torch.Tensor, completion_mask: torch.Tensor) -> torch.Tensor:
        """
        Values of the states in which the tokens of answers were chosen, without gradients.

        Args:
            rollout ([`Rollout`]): prompts, and which of them each of the N samples answers.
            completion_ids (`torch.LongTensor` of shape `(N, T)`): the answers.
            completion_mask (`torch.Tensor` of shape `(N, T)`): 1 for their tokens.

        Returns:
            `torch.FloatTensor` of shape `(N, T)`: 0 where there is no token.
        """
        args = self.args
        size = args.per_device_train_batch_size if self.model.training else args.per_device_eval_batch_size
        parts = []
        quiet = disable_gradient_checkpointing(self.value_model, args.gradient_checkpointing_kwargs)
        with torch.no_grad(), quiet, self.accelerator.autocast():
            for samples in whole_groups(rollout.numbers, size):
                laid_out = self.lay_out(rollout.of(samples), completion_ids[samples], completion_mask[samples])
                branches = laid_out.num_branches if self._shares_prefixes else None
                found = token_values(self.value_model, laid_out.labels, branches, **laid_out.inputs)
                parts.append(laid_out.per_answer(found))
        return torch.cat(parts)

    def _compute_loss(self, model, inputs):
        laid_out = self.lay_out(inputs["rollout"], inputs["completion_ids"], inputs["completion_mask"])
        branches = {"num_branches": laid_out.num_branches} if self._shares_prefixes else {}
        with self.accelerator.autocast():
            outputs = model(
                **laid_out.inputs, labels=laid_out.labels, fused_lm_head=True, with_values=True, **branches
            )
        log_probs, values = laid_out.per_answer(outputs.log_probs), laid_out.per_answer(outputs.token_values)
        mask, old = inputs["loss_mask"], inputs["old_token_log_probs"]
        of_policy, sums = policy_loss(log_probs, old, inputs["advantages"], mask, self.epsilon_low, self.epsilon_high)
        of_values, more = value_loss(values, inputs["values"], inputs["returns"], mask, self.args.cliprange_value)
        sums |= more | {
            "loss/policy_avg": of_policy.detach(),
            "loss/value_avg": of_values.detach(),
            "policy/entropy_avg": (laid_out.per_answer(outputs.entropy.detach()) * mask).sum(),
        }
        self._count_step(sums, mask)
        return (of_policy + self.args.vf_coef * of_values) / inputs["tokens_per_step"][0]

    def _total(self, value):
        return self.accelerator.reduce(value.detach().clone(), reduction="sum")

    def _count_rewards(self, rewards, scores, log_ratios, old, mask):
        """What TRL's `PPOTrainer` logged of answers: means over answers of sums over tokens."""
        scored = ~scores.isnan()
        kl, entropy = (log_ratios * mask).sum(), -(old * mask).sum()
        sums = torch.stack([kl, entropy, scores[scored].sum(), rewards.sum(), scored.sum().float()])
        *totals, count = self._total(sums).tolist()
        kl, entropy, score, reward = (total / max(count, 1) for total in totals)
        metrics = self._metrics["train" if self.model.training else "eval"]
        metrics["objective/kl"].append(kl)
        metrics["objective/entropy"].append(entropy)
        metrics["objective/non_score_reward"].append(-self.beta * kl)
        metrics["objective/rlhf_reward"].append(reward)
        metrics["objective/scores"].append(score)

    def _count_step(self, sums, mask):
        totals = self._total(torch.stack([mask.sum(), *sums.values()]).float())
        metrics = self._metrics["train" if self.model.training else "eval"]
        for name, value in step_metrics(dict(zip(sums, totals[1:], strict=True)), totals[0]).items():
            metrics[name].append(value)

    @contextmanager
    def _without_value_model(self):
        """Context in which the policy has no value model, which PEFT and vLLM would take for a part of it."""
        policy = self.accelerator.unwrap_model(self.model)
        del policy.value_model
        try:
            yield
        finally:
            policy.value_model = self.value_model

    def _generate_single_turn(self, prompt_ids, images, multimodal_fields):
        with self._without_value_model():
            return super()._generate_single_turn(prompt_ids, images, multimodal_fields)

    def _save(self, output_dir=None, state_dict=None):
        with self._without_value_model():
            super()._save(output_dir, state_dict)
        self.value_model.save_pretrained(Path(output_dir or self.args.output_dir) / VALUE)

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        folder = Path(resume_from_checkpoint)
        if not (folder / VALUE).is_dir():
            raise ValueError(
                f"{folder} has no folder `{VALUE}` with the value model. Resume from a checkpoint of PPO."
            )
        policy = self.accelerator.unwrap_model(self.model if model is None else model)
        with self._without_value_model():
            set_peft_model_state_dict(policy, load_peft_weights(str(folder), device="cpu"))
        set_peft_model_state_dict(self.value_model, load_peft_weights(str(folder / VALUE), device="cpu"))

    def _load_best_model(self):
        self._load_from_checkpoint(self.state.best_model_checkpoint)


def base_of(model: Any) -> str:
    """Id or path (`str`) of a model, or of the base of one with adapters."""
    return model if isinstance(model, str) else get_config_model_id(model.config)
