"""Rows in, preference rows out: the sampler alone, with answers and judges that are given."""

from types import SimpleNamespace

import pytest
import torch
from support.tiny import tiny_image, tiny_processor, tiny_row

from trl_mm.data.protocols import JudgeUnavailable, Verdict
from trl_mm.trainer.on_policy.sampler import OnPolicySampler, as_pair


def prompts(count):
    return [{**tiny_row(seed), "weight": "7 kg", "verdict": "good"} for seed in range(count)]


def sampler(judge, texts, offline_probability=0.0, **settings):
    """A sampler whose policy writes the two `texts` to each prompt."""
    tokenizer = tiny_processor().tokenizer
    answers = [tokenizer(text)["input_ids"] + [tokenizer.eos_token_id] for text in texts]
    asked = []

    def sample(rows, step):
        asked.append((step, [row["row_id"] for row in rows]))
        return [answers] * len(rows), [None] * len(rows)

    made = OnPolicySampler(
        SimpleNamespace(
            judge=judge,
            offline_probability=offline_probability,
            args=SimpleNamespace(**{"seed": 0, "on_judge_failure": "error", **settings}),
            state=SimpleNamespace(global_step=3),
            model=SimpleNamespace(training=True),
            accelerator=SimpleNamespace(device="cpu", reduce=lambda value, reduction: value),
            processing_class=tiny_processor(),
            _tokenizer=tokenizer,
            eos_token_ids=[tokenizer.eos_token_id],
        )
    )
    made.answers = sample
    return made, answers, asked


@pytest.mark.parametrize("choice", [0, 1, None])
def test_a_prompt_becomes_a_pair_of_what_was_sampled(choice):
    verdict = Verdict(choice, "tie" if choice is None else "clear")
    made, answers, asked = sampler(lambda prompts, images, pairs: [verdict], ["A cat.", "A dog."])
    row = prompts(1)[0]
    (pair,), metrics = made([row])
    order = (1, 0) if choice == 1 else (0, 1)
    said = [["A cat.", "A dog."][place] for place in order]
    assert [pair[name][0]["content"] for name in ("chosen", "rejected")] == said
    assert pair["answer_ids"] == [answers[place] for place in order]
    assert (pair["weight"], pair["verdict"], pair["vllm_prompt"]) == (float(choice is not None), verdict, None)
    assert pair["prompt"] == row["prompt"] and asked == [(3, ["0"])]
    assert metrics["offline_rate"] == (0, 1) and metrics["judge/tie_rate"] == (int(choice is None), 1)
    assert metrics["completions/mean_length"] == (sum(map(len, answers)), 2)
    assert metrics["val/contain_eos_token"] == (2, 2)


def test_stored_pairs_stay_in_their_places_with_the_weight_of_a_verdict():
    rows = [{**row, "rejected": row["chosen"]} for row in prompts(16)]
    made, _, asked = sampler(lambda prompts, images, pairs: [None] * len(pairs), ["A.", "B."], 0.5)
    pairs, metrics = made(rows)
    assert [pair["row_id"] for pair in pairs] == [row["row_id"] for row in rows]
    sampled = [pair["row_id"] for pair in pairs if "answer_ids" in pair]
    assert asked == [(3, sampled)] and metrics["offline_rate"] == (16 - len(sampled), 16)
    assert 2 < len(sampled) < 14
    for pair, row in zip(pairs, rows, strict=True):
        # Columns of the data that have these names say nothing of a pair
        assert pair["weight"] == (0.0 if "answer_ids" in pair else 1.0)
        assert "answer_ids" in pair or pair["rejected"] is row["rejected"]


def test_stored_pairs_alone_ask_nobody():
    made, _, asked = sampler(None, ["A.", "B."], 1)
    rows = prompts(2)
    assert made(rows)[0] == [{**row, "weight": 1.0} for row in rows] and asked == []


def test_an_image_token_that_is_spelled_is_no_image():
    (pair,) = sampler(lambda *_: [0], ["<image> A cat.", "A dog."])[0](prompts(1))[0]
    assert pair["chosen"][0]["content"] == " A cat."


def test_a_judge_that_is_down_leaves_pairs_without_weight_or_stops():
    def down(prompts, images, pairs):
        raise JudgeUnavailable("no answer")

    pairs, metrics = sampler(down, ["A.", "B."], on_judge_failure="skip")[0](prompts(2))
    assert [(pair["verdict"], pair["weight"]) for pair in pairs] == [(None, 0.0)] * 2
    assert metrics["judge/failed_rate"] == (2, 2)
    with pytest.raises(JudgeUnavailable, match="No verdicts in step 3: no answer"):
        sampler(down, ["A.", "B."])[0](prompts(2))


def test_rewards_are_verdicts_and_equal_ones_are_ties():
    made, _, _ = sampler(None, ["A cat.", "No."], missing_eos_penalty=None)
    made.trainer.prompts_are_text = False
    seen = []

    def rewards(prompts, completions, completion_ids_list, **columns):
        seen.append((len(prompts), columns["weight"], columns["image"][0].size))
        return torch.tensor([1.0, 2, 3, 2])  # first answers, then second ones

    made.trainer._calculate_rewards_from_functions = rewards
    pairs, metrics = made(prompts(2))
    assert [pair["verdict"] for pair in pairs] == [Verdict(1, "clear", "1 / 3"), Verdict(None, "tie", "2 / 2")]
    assert [pair["chosen"][0]["content"] for pair in pairs] == ["No.", "A cat."]
    assert seen == [(4, ["7 kg"] * 4, tiny_image(0).size)]
    assert metrics["judge/tie_rate"] == (1, 2) and metrics["objective/scores"] == (8, 4)


def test_a_pair_without_a_verdict_keeps_its_order():
    pair = as_pair({"row_id": "0"}, ["a", "b"], [[1], [2]], None, [5])
    assert pair["answer_ids"] == [[1], [2]] and pair["weight"] == 0.0 and pair["vllm_prompt"] == [5]
