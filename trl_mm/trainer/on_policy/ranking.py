"""Which of two sampled answers is chosen, by a judge or by rewards."""

import torch

from ...data.protocols import OUTCOMES, JudgeUnavailable, Verdict, is_judge, judge_name, judge_pairs
from ...data.rows import as_parts, message_text


# Names that TRL gives reward functions its own values under
TAKEN = ("prompt", "prompts", "completions", "completion_ids", "completion_ids_list", "trainer_state")


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


def ranked_by_judge(trainer, rows, texts):
    """
    Ask the trainer's judge.

    Args:
        trainer ([`MMOnlineDPOTrainer`]): the trainer.
        rows (`list[dict]`): rows with PIL `images`.
        texts (`list[list[str]]`): two answers to each row.

    Returns:
        `tuple`: verdicts (`list[Verdict | None]`), `None` where the judge was not reached, and sums and counts of
        metrics (`dict[str, tuple[float, float]]`).

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
    if failed and trainer.args.on_judge_failure == "error":
        raise JudgeUnavailable(f"No verdicts in step {trainer.state.global_step}: {failure or 'on another process'}")
    if failure is not None:
        verdicts = [None] * len(rows)
    outcomes = ["failed" if verdict is None else verdict.outcome for verdict in verdicts]
    metrics = {
        f"judge/{name}_rate": (outcomes.count(name), len(rows)) for name in (*OUTCOMES, "failed") if name != "clear"
    }
    # Of the pairs that were shown in both orders with a readable answer each time
    compared = [v for v in verdicts if v is not None and len(v.places) == 2 and None not in v.places]
    metrics["judge/order_agreement"] = (sum(v.places[0] != v.places[1] for v in compared), len(compared))
    return verdicts, metrics


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
        `tuple`: verdicts (`list[Verdict]`) whose text says the rewards, and sums and counts of metrics
        (`dict[str, tuple[float, float]]`).
    """
    names = ("judge/tie_rate", "objective/scores", "objective/scores_margin")
    if not rows:
        return [], dict.fromkeys(names, (0, 0))

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
    verdicts = [
        Verdict(None if a == b else int(b > a), "tie" if a == b else "clear", f"{a:.3g} / {b:.3g}")
        for a, b in zip(first.tolist(), second.tolist(), strict=True)
    ]
    metrics = {
        "judge/tie_rate": (sum(verdict.outcome == "tie" for verdict in verdicts), len(rows)),
        "objective/scores": (rewards.sum(), len(rewards)),
        "objective/scores_margin": ((first - second).abs().sum(), len(rows)),
    }
    return verdicts, metrics
