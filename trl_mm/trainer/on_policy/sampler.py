"""Two answers of the current policy to each prompt, ranked: rows in, preference rows out."""

import logging
import random

from ...data.images import with_open_images
from ...data.seeds import derived_seed
from ...generation.answers import sample_answers
from .ranking import ranked_by_judge, ranked_by_rewards
from .unwrapped_policy import generation_model
from .vllm import vllm_answers


logger = logging.getLogger(__name__)


class OnPolicySampler:
    """
    The sampler of Online-DPO and Mixed-DPO (arXiv 2407.02477, eq. 4).

    Args:
        trainer ([`MMOnlineDPOTrainer`]): the trainer, whose policy writes the answers and whose judge or reward
            functions rank them.
    """

    def __init__(self, trainer):
        self.trainer = trainer

    def __call__(self, rows):
        """
        Make the pairs of a batch. Every process has to come, rows or not.

        Args:
            rows (`list[dict]`): prompts; preference rows where stored pairs may be drawn.

        Returns:
            `tuple`: preference rows in the order of `rows`, and sums and counts of metrics
            (`dict[str, tuple[float, float]]`). A row has `weight`, 0.0 without a clear verdict and else 1.0; one that
            was sampled also has the token ids of both answers (`answer_ids`), its [`Verdict`], or `None` if the judge
            was not reached (`verdict`), and the prompt's ids as vLLM read them, or `None` (`vllm_prompt`).
        """
        trainer = self.trainer
        step = trainer.state.global_step if trainer.model.training else "eval"
        stored = [self._trains_on_stored(row, step) for row in rows]
        prompts = [with_open_images(row) for row, is_stored in zip(rows, stored, strict=True) if not is_stored]
        answers, vllm_prompts = self.answers(prompts, step) if trainer.offline_probability < 1 else ([], [])
        texts = [[trainer._tokenizer.decode(ids, skip_special_tokens=True) for ids in pair] for pair in answers]
        verdicts, metrics = self._rank(prompts, answers, texts)
        metrics["offline_rate"] = (sum(stored), len(rows))
        metrics["completions/mean_length"] = (sum(len(ids) for pair in answers for ids in pair), 2 * len(answers))
        # An image token spelled in other tokens would be read as an image
        image = trainer.processing_class.image_token
        texts = [[text.replace(image, "") for text in pair] for pair in texts]
        sampled = iter(zip(prompts, texts, answers, verdicts, vllm_prompts, strict=True))
        pairs = [
            {**row, "weight": 1.0} if own else as_pair(*next(sampled)) for row, own in zip(rows, stored, strict=True)
        ]
        return pairs, metrics

    def answers(self, rows, step):
        """
        Sample two answers to each prompt. Every process has to come, rows or not: together they gather the weights.

        Args:
            rows (`list[dict]`): rows with `prompt` and PIL `images`.
            step (`int` or `str`): what the samples derive from, beside the seed and `row_id`.

        Returns:
            `tuple`: answers (`list[list[list[int]]]`), as token ids up to and with the EOS token, and the token ids of
            the prompts as vLLM read them (`list`), each `None` without vLLM.
        """
        trainer = self.trainer
        seeds = [("online", trainer.args.seed, step, row["row_id"]) for row in rows]
        if trainer.use_vllm:
            return vllm_answers(trainer, rows, seeds)
        with generation_model(trainer) as model, trainer.accelerator.autocast():
            config, processor = trainer.generation_config, trainer.processing_class
            answers = sample_answers(model, processor, rows, config, seeds) if rows else []
        return answers, [None] * len(rows)

    def _trains_on_stored(self, row, step):
        """Draw α ~ Bernoulli(p) for a row in a step (eq. 4)."""
        probability = self.trainer.offline_probability
        if probability in (0, 1):
            return probability == 1
        seed = derived_seed("offline", self.trainer.args.seed, step, row["row_id"])
        return random.Random(seed).random() < probability

    def _rank(self, rows, answers, texts):
        trainer = self.trainer
        ended = [[ids[-1] in trainer.eos_token_ids for ids in pair] for pair in answers]
        if trainer.judge is None:
            verdicts, metrics = ranked_by_rewards(trainer, rows, answers, texts, ended)
        else:
            verdicts, metrics = ranked_by_judge(trainer, rows, texts)
        return verdicts, {**metrics, "val/contain_eos_token": (sum(map(sum, ended)), 2 * len(ended))}


def warn_of_long_prompts(reports, max_new_tokens):
    """
    Say how many prompts leave too little room for an answer.

    Args:
        reports (`dict[str, FitReport]`): how the rows of each dataset fit.
        max_new_tokens (`int`): tokens of the longest answer.
    """
    for name, report in reports.items():
        if report.max_length is None:
            continue
        count = int((report.max_length - report.kept.prompt < max_new_tokens).sum())
        if count > 0:
            logger.warning(
                f"The prompts of {count} rows of the {name} dataset leave fewer than `max_new_tokens` "
                f"({max_new_tokens}) of `max_length` ({report.max_length}): longer answers are cut before they are "
                f"scored. Raise `max_length` to {max_new_tokens + report.kept.prompt.max()}."
            )


def as_pair(row, texts, answer_ids, verdict, vllm_prompt):
    """A preference row from both answers to a row. Without a clear verdict the first stands for the chosen one."""
    choice = None if verdict is None else verdict.choice
    order = (1, 0) if choice == 1 else (0, 1)
    chosen, rejected = ([{"role": "assistant", "content": texts[place]}] for place in order)
    return {
        **row,
        "chosen": chosen,
        "rejected": rejected,
        "answer_ids": [answer_ids[place] for place in order],
        "vllm_prompt": vllm_prompt,
        "verdict": verdict,
        "weight": 0.0 if choice is None else 1.0,
    }
