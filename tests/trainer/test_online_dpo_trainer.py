"""`MMOnlineDPOTrainer` beside TRL's trainers, and where TRL's does not look at the image."""

import copy
import sys
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from datasets import Dataset, Image, List
from peft import LoraConfig
from support.rounding import rounding
from support.rows import said
from support.tiny import TRAINING, tiny_image, tiny_model, tiny_processor, tiny_row
from trl.experimental.online_dpo import OnlineDPOConfig, OnlineDPOTrainer

from trl_mm import MMDPOConfig, MMDPOTrainer, MMOnlineDPOConfig, MMOnlineDPOTrainer
from trl_mm.data.images import with_open_images
from trl_mm.data.protocols import JudgeUnavailable, Verdict
from trl_mm.trainer.on_policy import sampler


class LongerIsBetter:
    """A judge that keeps what it was asked."""

    def __init__(self):
        self.asked = []

    def judge(self, prompts, images, answer_pairs):
        self.asked += zip(prompts, images, answer_pairs, strict=True)
        return [None if len(a) == len(b) else int(len(b) > len(a)) for a, b in answer_pairs]


class Always:
    def __init__(self, *verdicts):
        self.verdicts_given = verdicts

    def judge(self, prompts, images, answer_pairs):
        raise AssertionError("`verdicts` tells more")

    def verdicts(self, prompts, images, answer_pairs):
        return [self.verdicts_given[index % len(self.verdicts_given)] for index in range(len(answer_pairs))]


class Broken:
    """Down from the given call on."""

    def __init__(self, calls=0):
        self.calls = calls

    def judge(self, prompts, images, answer_pairs):
        self.calls -= 1
        if self.calls < 0:
            raise JudgeUnavailable("no answer from http://judge")
        return [0] * len(answer_pairs)


def dataset(rows):
    rows = Dataset.from_list(rows)
    return (
        rows.cast_column("images", List(Image()))
        if "images" in rows.column_names
        else rows.cast_column("image", Image())
    )


def pairs(count=4):
    return [
        {
            **tiny_row(seed, size=(30 + 10 * seed, 40)),
            "rejected": said("There is a dog." * (1 + seed % 3)),
        }
        for seed in range(count)
    ]


def prompts(count=4):
    return [{name: row[name] for name in ("images", "prompt", "row_id")} for row in pairs(count)]


def arguments(folder, cls=MMOnlineDPOConfig, **settings):
    defaults = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 2,
        "max_steps": 2,
        "learning_rate": 1e-2,
        "logging_steps": 1,
        **TRAINING,
    }
    if cls is not MMDPOConfig:
        defaults |= {"max_new_tokens": 6}
    return cls(**{**defaults, **settings})


def make(checkpoint, folder, rows=None, judge=None, **settings):
    kwargs = {name: settings.pop(name) for name in ("reward_funcs", "peft_config", "eval_dataset") if name in settings}
    if "reward_funcs" not in kwargs:
        kwargs["judge"] = judge or LongerIsBetter()
    return MMOnlineDPOTrainer(
        checkpoint, args=arguments(folder, **settings), train_dataset=dataset(rows or prompts()), **kwargs
    )


def logged(trainer, name="loss"):
    if not trainer.state.log_history:
        trainer.train()
    return [entry[name] for entry in trainer.state.log_history if name in entry]


def weights(trainer):
    return {name: value.detach().clone() for name, value in trainer.model.named_parameters()}


@pytest.mark.parametrize("loss_type", ["sigmoid", "ipo", "hinge"])
def test_with_stored_pairs_only_the_losses_are_those_of_dpo(checkpoint, tmp_path, loss_type):
    settings = {"loss_type": loss_type, "gradient_accumulation_steps": 2, "max_steps": 3}
    dpo = MMDPOTrainer(checkpoint, args=arguments(tmp_path, MMDPOConfig, **settings), train_dataset=dataset(pairs(6)))
    ours = MMOnlineDPOTrainer(
        checkpoint, args=arguments(tmp_path, offline_probability=1, **settings), train_dataset=dataset(pairs(6))
    )
    assert logged(ours) == pytest.approx(logged(dpo), abs=2e-4)  # TRL's online trainer logs four decimals
    for name, value in weights(ours).items():
        torch.testing.assert_close(value, dpo.model.get_parameter(name), atol=1e-4, rtol=1e-3)
    assert logged(ours, "offline_rate") == [1, 1, 1]


@pytest.mark.parametrize("prefix_sharing", [True, False])
def test_the_loss_of_the_same_answers_is_trls(checkpoint, tmp_path, monkeypatch, prefix_sharing):
    """
    Both trainers are given the same samples and rewards; TRL gets its images under the one name it looks at. With
    plain gradient descent: Adam divides by the size of a gradient, and makes a step of the rounding of a zero.
    """
    sampled = [[[40, 41, 42, 1], [50, 51, 1]], [[60, 61, 1], [70, 71, 72, 73]]]
    rewards = [2.0, 1.0, 1.0, 3.0]  # first answers, then second ones

    def reward(prompts, completions, **columns):
        assert len(columns["image"]) == 4
        return rewards

    one_step = {"max_steps": 1, "optim": "sgd"}
    rows = prompts(2)
    single = [{"image": row["images"][0], **{k: v for k, v in row.items() if k != "images"}} for row in rows]
    theirs = OnlineDPOTrainer(
        tiny_model(scale=4),
        reward_funcs=reward,
        args=arguments(tmp_path, OnlineDPOConfig, gradient_checkpointing=False, max_new_tokens=4, **one_step),
        train_dataset=dataset(single),
        processing_class=tiny_processor(),
    )
    generate = theirs._generate

    def given(model, prompts, images):
        prompt_ids, prompt_mask, _, _, vision = generate(model, prompts, images)
        order = [0 if image.width == rows[0]["images"][0].width else 1 for image in images]
        blocks = [sampled[row][which] for which in range(2) for row in order]
        ids = torch.tensor([row + [0] * (4 - len(row)) for row in blocks])
        return prompt_ids, prompt_mask, ids, torch.tensor([[1] * len(r) + [0] * (4 - len(r)) for r in blocks]), vision

    monkeypatch.setattr(theirs, "_generate", given)
    ours = MMOnlineDPOTrainer(
        tiny_model(scale=4),
        reward_funcs=reward,
        args=arguments(tmp_path, prefix_sharing=prefix_sharing, **one_step),
        train_dataset=dataset(single),
        processing_class=tiny_processor(),
    )
    monkeypatch.setattr(
        ours.sampler, "answers", lambda rows, step: ([sampled[int(row["row_id"])] for row in rows], [None] * 2)
    )
    before = weights(ours)
    for trainer in (ours, theirs):
        trainer.beta_before = trainer.beta
        trainer.train()
    (our_log, *_), (their_log, *_) = ours.state.log_history, theirs.state.log_history
    for name in ("loss", "grad_norm", "rewards/margins", "logps/chosen", "logps/rejected", "val/contain_eos_token"):
        assert our_log[name] == pytest.approx(their_log[name], rel=2e-4, abs=2e-4), name
    assert our_log["objective/scores"] == pytest.approx(their_log["objective/scores"])
    limit = rounding(terms=1000, size=ours.args.learning_rate)
    assert max((value - before[name]).abs().max() for name, value in weights(ours).items()) > 100 * limit
    for name, value in weights(ours).items():
        # The gradient has the norm 1, as it is clipped, and a weight's share of it is a sum over tokens and layers
        torch.testing.assert_close(value, theirs.model.get_parameter(name), atol=limit, rtol=1e-6)


def test_another_image_gives_other_answers_and_another_loss(checkpoint, tmp_path):
    def run(seed):
        rows = [{**row, "images": [tiny_image(seed + index, size=(40, 40))]} for index, row in enumerate(prompts(2))]
        judge = LongerIsBetter()
        trainer = make(checkpoint, tmp_path, rows, judge, temperature=0.5, max_steps=1, max_new_tokens=12)
        trainer.train()
        return [answers for _, _, answers in judge.asked], logged(trainer, "logps/chosen") + logged(
            trainer, "objective/entropy"
        )

    assert run(0) == run(0)
    (answers, log_probs), (other_answers, other_log_probs) = run(0), run(100)
    assert answers != other_answers
    assert log_probs != other_log_probs


def test_trls_trainer_does_not_see_images_under_their_canonical_name(tmp_path):
    """What the test above guards against. If it fails, TRL has learned to look."""

    def run(seed):
        rows = [{**row, "images": [tiny_image(seed + index, size=(40, 40))]} for index, row in enumerate(prompts(2))]
        trainer = OnlineDPOTrainer(
            tiny_model(scale=4),
            reward_funcs=lambda completions, **_: [float(len(c[0]["content"])) for c in completions],
            args=arguments(tmp_path, OnlineDPOConfig, max_steps=1),
            train_dataset=dataset(rows),
            processing_class=tiny_processor(),
        )
        return logged(trainer), logged(trainer, "objective/entropy")

    assert run(0) == run(100)


def test_rewards_for_text_get_text_where_prompts_are_strings(checkpoint, tmp_path):
    seen = []

    def reward(prompts, completions, **columns):
        seen.append((set(prompts), {type(text) for text in completions}))
        return [float(len(text)) for text in completions]

    rows = [{**row, "prompt": "Describe the image."} for row in prompts()]
    trainer = make(checkpoint, tmp_path, rows, reward_funcs=reward)
    assert set(logged(trainer, "judge/tie_rate")) != {1.0}
    assert seen[0] == ({"Describe the image."}, {str})


def test_a_script_for_trls_trainer_runs(checkpoint, tmp_path):
    seen = []

    def reward(prompts, completions, completion_ids, image, label, trainer_state, **columns):
        seen.append((prompts[0][0]["content"][0]["type"], image[0].size, label, trainer_state.global_step))
        return [float(sum(ids)) for ids in completion_ids]

    rows = [{"image": r["images"][0], "prompt": r["prompt"], "label": i} for i, r in enumerate(prompts())]
    trainer = MMOnlineDPOTrainer(
        model=tiny_model(scale=4),
        reward_funcs=reward,
        args=arguments(tmp_path, OnlineDPOConfig),
        train_dataset=dataset(rows),
        processing_class=tiny_processor(),
    )
    assert len(logged(trainer)) == 2
    assert seen[0][0] == "image" and sorted(seen[0][2] + seen[1][2]) == sorted([0, 1, 2, 3] * 2)
    names = ("objective/kl", "objective/entropy", "objective/non_score_reward", "objective/rlhf_reward")
    names += (
        "objective/scores",
        "objective/scores_margin",
        "rewards/chosen",
        "rewards/rejected",
        "rewards/accuracies",
    )
    names += ("rewards/margins", "logps/chosen", "logps/rejected", "val/contain_eos_token", "beta")
    assert set(names) <= set(trainer.state.log_history[0])


def test_rows_with_no_one_and_several_images_share_a_batch(checkpoint, tmp_path):
    rows = prompts(3)
    rows[1]["images"] = []
    rows[2]["images"] = [tiny_image(7), tiny_image(8, size=(60, 30))]
    judge = LongerIsBetter()
    trainer = make(checkpoint, tmp_path, rows, judge, per_device_train_batch_size=3, max_steps=1)
    assert len(logged(trainer)) == 1
    assert sorted(len(images) for _, images, _ in judge.asked) == [0, 1, 2]


def test_answers_do_not_depend_on_the_batch(checkpoint, tmp_path):
    def answers(batch_size):
        judge = LongerIsBetter()
        settings = {"per_device_train_batch_size": batch_size, "gradient_accumulation_steps": 4 // batch_size}
        trainer = make(checkpoint, tmp_path, None, judge, max_steps=1, **settings)
        trainer.train()
        return {images[0].size: pair for _, images, pair in judge.asked}, weights(trainer)

    (one, one_weights), (four, four_weights) = answers(1), answers(4)
    assert one == four and len(set(four.values())) == 4
    for name, value in one_weights.items():
        torch.testing.assert_close(value, four_weights[name], atol=1e-3, rtol=1e-3)


def test_gradient_checkpointing_changes_nothing(checkpoint, tmp_path):
    runs = [make(checkpoint, tmp_path, gradient_checkpointing=value) for value in (True, False)]
    assert logged(runs[0]) == logged(runs[1])
    assert logged(runs[0], "objective/entropy") == pytest.approx(logged(runs[1], "objective/entropy"), rel=1e-5)


def test_the_prompt_is_computed_once_for_both_answers(checkpoint, tmp_path):
    trainer = make(checkpoint, tmp_path, max_steps=1)
    read = []
    backbone = trainer.model.base_model.language_model

    def note(module, args, kwargs):
        embeds = kwargs["inputs_embeds"]
        read.append((embeds.shape[0], embeds.shape[1], torch.is_grad_enabled()))

    with_hook = backbone.register_forward_pre_hook(note, with_kwargs=True)
    trainer.train()
    with_hook.remove()
    (prefill, *tokens, policy) = read
    assert prefill[0] == 2 and prefill[1] > 20 and not prefill[2]
    assert [row[:2] for row in tokens] == [(4, 1)] * 6  # two samples of two prompts, one token each, with a cache
    assert policy[0] == 2 and policy[2]


@pytest.mark.parametrize("lora", [False, True])
def test_a_batch_of_ties_trains_nothing(checkpoint, tmp_path, lora):
    tie, invalid = Verdict(None, "tie"), Verdict(None, "invalid", "???")
    peft = {"peft_config": LoraConfig(target_modules=["q_proj", "v_proj"])} if lora else {}
    trainer = make(checkpoint, tmp_path, None, Always(tie, invalid), **peft)
    before = weights(trainer)
    assert logged(trainer) == [0, 0]
    assert all(torch.equal(value, before[name]) for name, value in weights(trainer).items())
    assert logged(trainer, "judge/tie_rate") == logged(trainer, "judge/invalid_rate") == [0.5, 0.5]
    assert logged(trainer, "rewards/chosen") == []  # nothing was chosen


def test_a_tie_leaves_the_weight_of_the_others_alone(checkpoint, tmp_path):
    """A pair beside a tie trains as it does beside another micro-batch of nothing."""
    clear, tie = Verdict(0, "clear"), Verdict(None, "tie")
    together = make(checkpoint, tmp_path, None, Always(clear, tie), max_steps=1)
    alone = make(
        checkpoint, tmp_path, None, None, max_steps=1, per_device_train_batch_size=1, gradient_accumulation_steps=2
    )
    alone.judge = Always(clear)
    calls = iter([clear, tie])
    alone.judge.verdicts = lambda *_: [next(calls)]
    assert logged(together, "grad_norm") == pytest.approx(logged(alone, "grad_norm"), rel=1e-4)


def test_the_order_of_the_answers_decides_what_is_chosen(checkpoint, tmp_path):
    first, second = (
        make(checkpoint, tmp_path, None, Always(Verdict(choice, "clear")), max_steps=1) for choice in (0, 1)
    )
    assert logged(first, "logps/chosen") == pytest.approx(logged(second, "logps/rejected"), rel=1e-6)
    assert logged(first, "logps/chosen") != logged(first, "logps/rejected")


def test_agreement_over_both_orders_is_counted(checkpoint, tmp_path):
    agreed = Verdict(0, "clear", places=(0, 1))
    not_agreed = Verdict(None, "inconsistent", places=(0, 0))
    trainer = make(checkpoint, tmp_path, None, Always(agreed, not_agreed), max_steps=1)
    assert logged(trainer, "judge/order_agreement") == [0.5]
    assert logged(trainer, "judge/inconsistent_rate") == [0.5]


def test_a_function_judges_like_an_object(checkpoint, tmp_path):
    judge = LongerIsBetter()

    def longer_is_better(prompts, images, answer_pairs):
        return judge.judge(prompts, images, answer_pairs)

    runs = [make(checkpoint, tmp_path, None, given, max_steps=1) for given in (longer_is_better, LongerIsBetter())]
    assert logged(runs[0], "logps/chosen") == logged(runs[1], "logps/chosen")
    assert len(judge.asked) == 2


def test_mixed_dpo_draws_each_row_and_step_anew(checkpoint, tmp_path):
    judge = LongerIsBetter()
    trainer = make(checkpoint, tmp_path, pairs(), judge, offline_probability=0.5, max_steps=16)
    rates = logged(trainer, "offline_rate")
    assert set(rates) == {0, 0.5, 1}
    assert 0.2 < sum(rates) / 16 < 0.8
    assert len(judge.asked) == round(2 * 16 - 2 * sum(rates))
    again = make(checkpoint, tmp_path, pairs(), LongerIsBetter(), offline_probability=0.5, max_steps=16)
    assert logged(again) == logged(trainer)


def test_image_tokens_are_never_sampled(checkpoint, tmp_path):
    model = tiny_model(scale=4)
    image = tiny_processor().image_token_id
    judge = LongerIsBetter()
    trainer = MMOnlineDPOTrainer(
        model, judge=judge, args=arguments(tmp_path, max_steps=1), train_dataset=dataset(prompts()),
        processing_class=tiny_processor(),
    )  # fmt: skip
    forward = model.get_output_embeddings().forward

    def prefers_images(hidden):
        logits = forward(hidden).clone()
        logits[..., image] += 1e4
        return logits

    model.get_output_embeddings().forward = prefers_images
    rows = [with_open_images(trainer.train_dataset[index]) for index in range(2)]
    answers, _ = trainer.sampler.answers(rows, 0)
    assert all(image not in ids for pair in answers for ids in pair)


def test_a_judge_that_is_down_leaves_a_checkpoint_to_go_on_from(checkpoint, tmp_path):
    undisturbed = make(checkpoint, tmp_path / "a", None, Always(Verdict(0, "clear")), max_steps=3)
    undisturbed.train()
    trainer = make(checkpoint, tmp_path / "b", None, Broken(2), max_steps=3)
    with pytest.raises(JudgeUnavailable, match="No verdicts in step 2: no answer from http://judge"):
        trainer.train()
    resumed = make(checkpoint, tmp_path / "b", None, Always(Verdict(0, "clear")), max_steps=3)
    resumed.train(resume_from_checkpoint=True)
    assert logged(resumed) == logged(undisturbed)
    for name, value in weights(undisturbed).items():
        torch.testing.assert_close(resumed.model.get_parameter(name), value, atol=1e-6, rtol=1e-5)


def test_a_judge_that_is_down_can_be_skipped(checkpoint, tmp_path):
    trainer = make(checkpoint, tmp_path, None, Broken(1), on_judge_failure="skip")
    assert len(logged(trainer)) == 2
    assert logged(trainer, "judge/failed_rate") == [0, 1]


UNREAD = Verdict(None, "invalid", "I am sorry\x1b[2J " + 500 * "…")


def silent_run(checkpoint, folder, *steps, **settings):
    """A run whose judge gives these verdicts to the pairs of each step, one a step, and the steps that it finished."""
    judge = Always(UNREAD)
    given = iter(steps)

    def verdicts(prompts, images, answer_pairs):
        verdict = next(given)
        if isinstance(verdict, Exception):
            raise verdict
        return [verdict] * len(answer_pairs)

    judge.verdicts = verdicts
    trainer = make(checkpoint, folder, None, judge, max_steps=len(steps), temperature=1.0, **settings)
    trainer.train()
    return trainer


@pytest.mark.parametrize("unread", [UNREAD, Verdict(None, "inconsistent", "I am sorry")])
def test_a_judge_that_says_nothing_readable_warns_and_stops(checkpoint, tmp_path, caplog, unread):
    with pytest.raises(ValueError, match="in 3 steps in a row, up to step 4, .*I am sorry.*`max_steps_without_verd"):
        silent_run(checkpoint, tmp_path, Verdict(0, "clear"), *[unread] * 5, max_steps_without_verdict=3)
    (warning,) = [record.getMessage() for record in caplog.records if "The judge gave none" in record.getMessage()]
    assert "none of the 2 pairs of step 2" in warning and f"{unread.outcome}: I am sorry" in warning
    assert "\x1b" not in warning and len(warning) < 500


def test_a_run_that_is_shorter_does_not_end_well_either(checkpoint, tmp_path):
    with pytest.raises(ValueError, match="in 2 steps in a row, up to step 2, .*No checkpoint was saved before"):
        silent_run(checkpoint, tmp_path, UNREAD, UNREAD)
    assert len(logged(silent_run(checkpoint, tmp_path, UNREAD, UNREAD, max_steps_without_verdict=0))) == 2


def test_ties_of_a_judge_that_works_do_not_stop(checkpoint, tmp_path):
    silent_run(checkpoint, tmp_path, *[UNREAD, Verdict(None, "tie")] * 2, max_steps_without_verdict=2)
    silent_run(checkpoint, tmp_path, *[UNREAD, Verdict(0, "clear")] * 2, max_steps_without_verdict=2)
    silent_run(checkpoint, tmp_path, *[Verdict(None, "tie")] * 3, max_steps_without_verdict=2)


def test_a_step_in_which_the_judge_is_down_says_nothing_of_its_verdicts(checkpoint, tmp_path):
    settings = {"max_steps_without_verdict": 2, "on_judge_failure": "skip"}
    down = JudgeUnavailable("no answer")
    silent_run(checkpoint, tmp_path, down, down, down, **settings)
    with pytest.raises(ValueError, match="in 2 steps in a row, up to step 3"):
        silent_run(checkpoint, tmp_path, UNREAD, down, UNREAD, **settings)


def test_one_readable_verdict_among_the_micro_batches_of_a_step_is_enough(checkpoint, tmp_path):
    settings = {"gradient_accumulation_steps": 2, "max_steps_without_verdict": 2, "max_steps": 2}
    judge = Always(UNREAD)
    calls = iter([UNREAD, Verdict(0, "clear"), UNREAD, UNREAD])
    judge.verdicts = lambda prompts, images, pairs: [next(calls)] * len(pairs)
    assert len(logged(make(checkpoint, tmp_path, None, judge, temperature=1.0, **settings))) == 2


def test_equal_answers_say_nothing_of_the_judge(checkpoint, tmp_path):
    trainer = make(checkpoint, tmp_path, None, Always(UNREAD), max_steps_without_verdict=1, max_new_tokens=1)
    trainer._tokenizer = SimpleNamespace(decode=lambda ids, **_: "No.")
    assert len(logged(trainer)) == 2


def test_a_judge_that_returns_nonsense_is_an_error(checkpoint, tmp_path):
    judge = LongerIsBetter()
    judge.judge = lambda *_: [0]
    with pytest.raises(ValueError, match="returned 1 verdicts for 2 pairs"):
        make(checkpoint, tmp_path, None, judge).train()


def test_lora_trains_and_its_reference_is_the_base(checkpoint, tmp_path):
    trainer = make(checkpoint, tmp_path, peft_config=LoraConfig(target_modules=["q_proj", "v_proj"]), max_steps=3)
    assert logged(trainer, "objective/kl")[0] == 0
    assert logged(trainer, "objective/kl")[2] != 0
    assert trainer.ref_model is None


def test_adapters_are_merged_while_answers_are_sampled_and_training_is_the_same(checkpoint, tmp_path, monkeypatch):
    lora = LoraConfig(target_modules=["q_proj", "v_proj"], lora_dropout=0.1)
    settings = {"max_steps": 3, "disable_dropout": False}
    losses, merged = [], []
    sample = sampler.sample_answers

    def watched(model, *args):
        answers = sample(model, *args)
        merged.append(any(getattr(layer, "merged", False) for layer in model.modules()))
        return answers

    monkeypatch.setattr(sampler, "sample_answers", watched)
    for merge in (None, False, True):
        trainer = make(checkpoint, tmp_path, peft_config=lora, merge_adapters_for_generation=merge, **settings)
        before = {name: value for name, value in weights(trainer).items() if "lora" not in name}
        losses.append([*logged(trainer), *logged(trainer, "objective/kl")])
        assert all(torch.equal(value, before[name]) for name, value in weights(trainer).items() if name in before)
    assert merged == [False] * 6 + [True] * 3
    assert losses[1] == losses[0] and losses[2] == pytest.approx(losses[0], abs=1e-4)


def test_evaluation_samples_and_ranks(checkpoint, tmp_path):
    trainer = make(checkpoint, tmp_path, eval_dataset=dataset(prompts(2)))
    metrics = trainer.evaluate()
    assert metrics["eval_loss"] == pytest.approx(0.6931, abs=1e-3)
    assert metrics["eval_objective/kl"] == 0
    assert metrics == {**trainer.evaluate(), **{k: metrics[k] for k in metrics if "second" in k or "runtime" in k}}


def test_a_new_dataset_is_evaluated_like_one_from_the_start(checkpoint, tmp_path):
    trainer = make(checkpoint, tmp_path, eval_dataset=dataset(prompts(2)))
    new = dataset(prompts(2)).remove_columns("row_id")  # which are counted then, and are the same
    names = ("eval_loss", "eval_completions/mean_length", "eval_logps/chosen")
    expected, found = trainer.evaluate(), trainer.evaluate(new)
    assert [found[name] for name in names] == [expected[name] for name in names]


def test_answers_are_logged_with_verdicts(checkpoint, tmp_path, capsys):
    trainer = make(checkpoint, tmp_path, log_completions=True, num_completions_to_print=2, max_steps=1)
    trainer.train()
    assert capsys.readouterr().out.count("Describe the image.") == 2
    table = pd.read_parquet(tmp_path / "completions" / "completions_00000.parquet")
    assert list(table.columns) == ["step", "row_id", "prompt", "first", "second", "chosen", "note"]
    assert len(table) == 2 and set(table["chosen"]) <= {"first", "second", "none"}


def test_answers_reach_the_tracker_with_their_images(checkpoint, tmp_path, monkeypatch):
    sent = []
    tracker = SimpleNamespace(Image=lambda image: image.size, Table=lambda dataframe: dataframe, log=sent.append)
    monkeypatch.setitem(sys.modules, "trackio", tracker)
    trainer = make(checkpoint, tmp_path, log_completions=True, max_steps=1)
    trainer.args.report_to = ["trackio"]
    trainer.train()
    (table,) = (entry["completions"] for entry in sent)
    assert set(table["image"].map(lambda images: images[0])) <= {(30 + 10 * seed, 40) for seed in range(4)}


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({}, ValueError, "Pass `judge`"),
        ({"judge": LongerIsBetter(), "reward_funcs": len}, ValueError, "Pass one of them"),
        ({"judge": len}, TypeError, "must have a method `judge"),
        ({"judge": LongerIsBetter(), "data_collator": list}, ValueError, "`data_collator` cannot be replaced"),
    ],
)
def test_what_cannot_rank_is_refused(checkpoint, tmp_path, settings, error, message):
    with pytest.raises(error, match=message):
        MMOnlineDPOTrainer(checkpoint, args=arguments(tmp_path), train_dataset=dataset(prompts()), **settings)


def test_stored_pairs_are_needed_where_they_are_drawn(checkpoint, tmp_path):
    with pytest.raises(ValueError, match="column `chosen` is missing"):
        make(checkpoint, tmp_path, offline_probability=0.5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"offline_probability": -0.1}, r"`offline_probability` must be in \[0, 1\], got -0.1"),
        ({"offline_probability": 1.5}, "got 1.5"),
        ({"loss_type": "exo_pair"}, "`loss_type` must be one of sigmoid, ipo, hinge"),
        ({"max_steps_without_verdict": -1}, "`max_steps_without_verdict` must be a number of steps, or 0 for never"),
        ({"max_steps_without_verdict": "ten"}, "got 'ten'"),
        ({"on_judge_failure": "retry"}, "`on_judge_failure` must be one of error, skip"),
        ({"use_vllm": True, "max_length": None}, "`use_vllm` needs `max_length`"),
    ],
)
def test_settings_that_cannot_be_are_refused(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        arguments(tmp_path, **settings)


def test_prompts_that_do_not_fit_are_dropped_before_training(checkpoint, tmp_path, caplog):
    rows = prompts()
    rows[0] = copy.deepcopy(rows[0])
    rows[0]["prompt"][0]["content"] = "Describe the image. " * 60
    with caplog.at_level("WARNING", logger="trl_mm"):
        trainer = make(checkpoint, tmp_path, rows, max_length=200, max_new_tokens=190)
    assert len(trainer.train_dataset) == 3
    assert "The prompts of 3 rows of the train dataset leave fewer than `max_new_tokens` (190)" in caplog.text
    assert trainer.fit_report["train"].num_dropped == 1
