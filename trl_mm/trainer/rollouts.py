"""What trainers do with sampled answers: sample, lay out, score and sum rewards; each prompt is computed once."""

from typing import Any

import torch
from transformers.integrations import is_deepspeed_zero3_enabled

from ..generation.answers import sample_from
from ..generation.prompt_inputs import joined
from .on_policy.rollout import Rollout, whole_groups
from .on_policy.unwrapped_policy import generation_model
from .prefix_sharing.branches import Branches, lay_out


class Rollouts:
    """To be inherited beside [`~trl.RLOOTrainer`], whose settings it reads."""

    accelerator: Any
    args: Any
    generation_config: Any
    model: Any
    processing_class: Any
    reward_funcs: list[Any]
    reward_clip_range: tuple[float, float] | None
    reward_weights: torch.Tensor
    state: Any
    _dummy_image: Any
    _shares_prefixes: bool
    _tokenizer: Any

    def sample(self, rollout: Rollout) -> list[list[int]]:
        """
        Sample the answers of a rollout with the current policy, each prompt computed once. Every process has to come.

        Args:
            rollout ([`Rollout`]): prompts, and which of them each sample answers.

        Returns:
            `list[list[int]]`: token ids of each answer, up to and with its EOS token.
        """
        step = self.state.global_step if self.model.training else "eval"
        most = self.args.sampling_batch_size or len(rollout.numbers)
        answers: list[list[int]] = []
        with generation_model(self) as model, self.accelerator.autocast():
            for samples in whole_groups(rollout.numbers, most):
                start = rollout.numbers[samples[0]]
                order = [rollout.numbers[sample] - start for sample in samples]

                def inputs_of(numbers, start=start, model=model):
                    batch = joined([rollout.prompts[start + n] for n in numbers], self._tokenizer.pad_token_id)
                    return {name: value.to(model.device) for name, value in batch.items()}

                seeds = [
                    ("rloo", self.args.seed, step, rollout.rows[rollout.numbers[n]]["row_id"], rollout.places[n])
                    for n in samples
                ]
                answers += sample_from(model, self.processing_class, inputs_of, order, self.generation_config, seeds)
        return answers

    def parts_of(self, rollout: Rollout, most: int) -> list[list[int]]:
        """
        Samples that a model reads together. Under ZeRO-3 all processes have to call it equally often, whichever groups
        they have, so there answers to one prompt may be torn apart.

        Args:
            rollout ([`Rollout`]): prompts, and which of them each sample answers.
            most (`int`): samples of a part, unless a prompt has more.

        Returns:
            `list[list[int]]`: numbers of the samples of each part, in their order.
        """
        count = len(rollout.numbers)
        if is_deepspeed_zero3_enabled():
            return [list(range(start, min(start + most, count))) for start in range(0, count, most)]
        return whole_groups(rollout.numbers, most)

    def lay_out(self, rollout: Rollout, completion_ids: torch.Tensor, completion_mask: torch.Tensor) -> Branches:
        """
        What a model reads of samples: answers to one prompt as its branches where prefixes are shared.

        Args:
            rollout ([`Rollout`]): prompts, and which of them each of the N samples answers.
            completion_ids (`torch.LongTensor` of shape `(N, T)`): the answers.
            completion_mask (`torch.Tensor` of shape `(N, T)`): 1 for their tokens.

        Returns:
            [`Branches`]
        """
        laid_out = lay_out(
            rollout.prompts,
            rollout.numbers,
            completion_ids,
            completion_mask,
            self._tokenizer.pad_token_id,
            self._shares_prefixes,
        )
        if self._dummy_image is not None:
            laid_out.inputs = self._dummy_image.added_to(laid_out.inputs)
        return laid_out

    def score(
        self,
        model: Any,
        rollout: Rollout,
        completion_ids: torch.Tensor,
        completion_mask: torch.Tensor,
        router_logits: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """
        Log-probabilities of answers, each prompt computed once where prefixes are shared.

        Args:
            model ([`~transformers.PreTrainedModel`]): policy or reference, with TRL's fused LM head.
            rollout ([`Rollout`]): prompts, and which of them each of the N samples answers.
            completion_ids (`torch.LongTensor` of shape `(N, T)`): the answers.
            completion_mask (`torch.Tensor` of shape `(N, T)`): 1 for their tokens.
            router_logits (`bool`, *optional*, defaults to `False`): whether to ask for the loss that balances experts.

        Returns:
            `tuple`: log-probabilities and entropies, `(N, T)`, 0 where there is no token, entropies `None` for a
            reference; and the loss that balances experts, or `None`.
        """
        laid_out = self.lay_out(rollout, completion_ids, completion_mask)
        options: dict[str, Any] = {"num_branches": laid_out.num_branches} if self._shares_prefixes else {}
        if router_logits:
            options["output_router_logits"] = True
        with self.accelerator.autocast():
            outputs = model(**laid_out.inputs, labels=laid_out.labels, fused_lm_head=True, **options)
        entropy = None if outputs.entropy is None else laid_out.per_answer(outputs.entropy)
        return laid_out.per_answer(outputs.log_probs), entropy, outputs.aux_loss

    def summed(self, rewards: torch.Tensor) -> torch.Tensor:
        """
        The reward of each answer, as TRL sums it: weighted, then clipped to `reward_clip_range`.

        Args:
            rewards (`torch.Tensor` of shape `(N, num_reward_funcs)`): NaN where a function gave none.

        Returns:
            `torch.Tensor` of shape `(N,)`: NaN where none gave one.
        """
        total = (rewards * self.reward_weights.to(rewards.device)).nansum(1)
        total[rewards.isnan().all(1)] = torch.nan
        return total.clamp(*self.reward_clip_range) if self.reward_clip_range else total
