"""Which of two sampled answers is chosen, by a judge or by rewards."""

from dataclasses import dataclass, field

import torch

from ...data.protocols import OUTCOMES, JudgeUnavailable, Verdict, judge_pairs
from ...data.rows import as_parts, message_text


# Names that TRL gives reward functions its own values under
TAKEN = ("prompt", "prompts", "completions", "completion_ids", "completion_ids_list", "trainer_state")


@dataclass
class Ranking:
    """
    Verdicts on pairs of sampled answers.

    Attributes:
        texts (`list[list[str]]`): both answers of each pair.
        choices (`list[int | None]`): the better answer, 0 or 1, or `None` without a clear verdict.
        notes (`list[str]`): what was said of each pair, for people to read.
        metrics (`dict[str, tuple[float, float]]`): sums and counts.
        verdicts (`list[Verdict | None]`): what a judge said, `None` where it was not reached; `[]` without a judge.
    """

    texts: list[list[str]]
    choices: list[int | None]
    notes: list[str]
    metrics: dict[str, tuple[float, float]]
    verdicts: list[Verdict | None] = field(default_factory=list)


def ranked_by_judge(trainer, rows, texts):
    """
    Ask the trainer's judge.

    Args:
        trainer ([`MMOnlineDPOTrainer`]): the trainer.
        rows (`list[dict]`): rows with PIL `images`.
        texts (`list[list[str]]`): two answers to each row.

    Returns:
        [`Ranking`]

    Raises:
        JudgeUnavailable: the judge of any process cannot be reached, on all processes.
    """
    failure, verdicts = None, []
    try:
        if rows:
            answers = [tuple(text.strip() for text in pair) for pair in texts]
            verdicts = judge_pairs(
                trainer.judge, [row["prompt"] for row in rows], [row["images"] for row in rows], answers
            )
    except JudgeUnavailable as error:
        failure = error
    failed = trainer.accelerator.reduce(
        torch.tensor(0.0 if failure is None else 1.0, device=trainer.accelerator.device), reduction="sum"
    )
    if failed and getattr(trainer.args, "on_judge_failure", "error") == "error":
        raise JudgeUnavailable(f"No verdicts in step {trainer.state.global_step}: {failure or 'on another process'}")
    outcomes = [verdict.outcome for verdict in verdicts] if failure is None else ["failed"] * len(rows)
    count = len(rows)
    metrics = {
        f"judge/{name}_rate": (outcomes.count(name), count) for name in (*OUTCOMES, "failed") if name != "clear"
    }
    # Of the pairs that were shown in both orders with a readable answer each time
    compared = [v for v in verdicts if len(v.places) == 2 and None not in v.places]
    metrics["judge/order_agreement"] = (sum(v.places[0] != v.places[1] for v in compared), len(compared))
    return Ranking(
        texts,
        [verdict.choice for verdict in verdicts] if failure is None else [None] * count,
        outcomes,
        metrics,
        verdicts if failure is None else [None] * count,
    )


def ranked_by_rewards(trainer, rows, answers, texts, ended):
    """
    Sum the rewards of both answers, as TRL does. Equal sums are a tie.

    Args:
        trainer ([`MMOnlineDPOTrainer`]): the trainer.
        rows (`list[dict]`): rows with PIL `images`.
        answers (`list[list[list[int]]]`): token ids of two answers to each row.
        texts (`list[list[str]]`): the same as text.
        ended (`list[list[bool]]`): whether they reach the EOS token.

    Returns:
        [`Ranking`]
    """
    names = ("judge/tie_rate", "objective/scores", "objective/scores_margin")
    if not rows:
        return Ranking([], [], [], dict.fromkeys(names, (0, 0)))

    def in_blocks(pairs):  # first answers of all rows, then second ones, as TRL lays them out
        return [value for which in zip(*pairs, strict=True) for value in which]

    completions = in_blocks(texts)
    if trainer.prompts_are_text:  # as in TRL, functions for text get text
        prompts = [message_text(row["prompt"][0]) for row in rows]
    else:
        prompts = [as_parts(row)["prompt"] if row["images"] else row["prompt"] for row in rows]
        completions = [[{"role": "assistant", "content": text}] for text in completions]
    columns = {name: [row.get(name) for row in rows] * 2 for name in rows[0] if name not in TAKEN}
    if all(len(row["images"]) == 1 for row in rows):
        columns["image"] = [image for images in columns["images"] for image in images]  # TRL's name for a single one
    rewards = trainer._calculate_rewards_from_functions(
        prompts=prompts * 2,
        completions=completions,
        completion_ids_list=in_blocks(answers),
        **columns,
    )  # (2B,)
    if trainer.args.missing_eos_penalty is not None:
        rewards[~torch.tensor(in_blocks(ended), device=rewards.device)] -= trainer.args.missing_eos_penalty
    first, second = rewards.chunk(2)
    choices = [None if a == b else int(b > a) for a, b in zip(first.tolist(), second.tolist(), strict=True)]
    metrics = {
        "judge/tie_rate": (choices.count(None), len(rows)),
        "objective/scores": (rewards.sum(), len(rewards)),
        "objective/scores_margin": ((first - second).abs().sum(), len(rows)),
    }
    notes = [f"{a:.3g} / {b:.3g}" for a, b in zip(first.tolist(), second.tolist(), strict=True)]
    return Ranking(texts, choices, notes, metrics)
