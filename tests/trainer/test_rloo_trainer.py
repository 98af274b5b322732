"""`MMRLOOTrainer` beside TRL's `RLOOTrainer`, with the same samples, and where TRL's does not look at the image."""

import copy
import json
from pathlib import Path
from random import Random
from types import SimpleNamespace
from unittest.mock import Mock, patch

import pytest
import torch
from peft import LoraConfig
from support.families import FAMILIES
from support.rows import image_dataset, said
from support.tiny import TEMPLATE, TRAINING, counted_images, tiny_image, tiny_processor, tiny_row
from transformers import (
    AutoModelForImageTextToText,
    AutoModelForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
    TrainerCallback,
)
from trl import RLOOConfig, RLOOTrainer

from trl_mm import MMRLOOConfig, MMRLOOTrainer, RewardModel
from trl_mm.data.seeds import derived_seed
from trl_mm.reward.verifiable import LengthReward
from trl_mm.trainer import rloo_trainer, rollouts
from trl_mm.trainer.image_rewards import with_images
from trl_mm.trainer.on_policy.rollout import Rollout


ANSWERS = ["There is a red circle.", "Yes.", "No, there is none.", "A dog and a cat sit on a sofa. The sky is blue!"]
METRICS = ("loss", "reward", "reward_std", "kl", "entropy", "completions/mean_length", "clip_ratio/region_mean")
METRICS += ("rewards/by_length/mean", "completions/clipped_ratio", "grad_norm")


def by_length(completions, **columns):
    """A reward that differs within groups."""
    return [len(completion[0]["content"]) / 10 for completion in completions]


def prompts(count=4, images=None):
    images = [1] * count if images is None else images
    rows = [tiny_row(seed, size=(30 + 10 * seed, 40)) for seed in range(count)]
    return [
        {"images": row["images"] * number, "prompt": row["prompt"], "row_id": row["row_id"]}
        for row, number in zip(rows, images, strict=True)
    ]


def arguments(folder, cls=MMRLOOConfig, **settings):
    defaults = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 4,
        "num_generations": 4,
        "max_completion_length": 12,
        "max_steps": 3,
        "learning_rate": 1e-2,
        "beta": 0.4,
        "optim": "sgd",  # AdamW makes a step of what is only rounding
        "logging_steps": 1,
        **TRAINING,
    }
    return cls(**{**defaults, **settings})


class SaysSo:
    """To be inherited beside a trainer: answers are set, and each group has long, short, equal and cut ones."""

    def said(self, count, first=0):
        tokenizer = self.processing_class.tokenizer
        answers = []
        for number in range(first, first + count):
            seed = derived_seed(self.state.global_step, number)
            ids = tokenizer(ANSWERS[seed % len(ANSWERS)])["input_ids"]
            answers.append(ids[: self.max_completion_length] if seed % 3 == 0 else [*ids[:10], tokenizer.eos_token_id])
        return answers


class TheirTrainer(SaysSo, RLOOTrainer):
    def _generate_single_turn(self, prompt_ids, images, multimodal_fields):
        return self.said(len(prompt_ids))


class OurTrainer(SaysSo, MMRLOOTrainer):
    def sample(self, rollout):
        return self.said(len(rollout.numbers))


def logged(trainer, names=METRICS):
    if not trainer.state.log_history:
        trainer.train()
    entries = [entry for entry in trainer.state.log_history if "loss" in entry]
    return [entry if names is None else {name: entry[name] for name in names if name in entry} for entry in entries]


def make(cls, checkpoint, folder, rows, reward_funcs=by_length, lora=False, **settings):
    given = {name: settings.pop(name) for name in ("processing_class", "eval_dataset") if name in settings}
    if not issubclass(cls, MMRLOOTrainer):
        settings.pop("prefix_sharing", None)
    return cls(
        checkpoint,
        reward_funcs,
        args=arguments(folder, MMRLOOConfig if issubclass(cls, MMRLOOTrainer) else RLOOConfig, **settings),
        train_dataset=image_dataset(rows),
        peft_config=LoraConfig(target_modules=r".*language_model.*(q|v)_proj", lora_alpha=64) if lora else None,
        **given,
    )


def same(checkpoint, folder, rows, left_out=(), **settings):
    """Train with both trainers; what is logged, and the weights, must be the same."""
    theirs, ours = (make(cls, checkpoint, folder, rows, **settings) for cls in (TheirTrainer, OurTrainer))
    before = {name: value.detach().clone() for name, value in ours.model.named_parameters()}
    names = [name for name in METRICS if name not in left_out]
    for mine, reference in zip(logged(ours, names), logged(theirs, names), strict=True):
        assert mine == pytest.approx(reference, abs=1e-5, rel=1e-4)
    expected = dict(theirs.model.named_parameters())
    for name, value in ours.model.named_parameters():
        torch.testing.assert_close(value, expected[name], atol=1e-5, rtol=1e-4)
    assert any(not torch.equal(value, expected[name]) for name, value in before.items())
    return ours


@pytest.mark.parametrize(
    ("lora", "settings"),
    [
        (False, {}),
        (False, {"beta": 0.0}),
        (False, {"gradient_accumulation_steps": 2}),
        (False, {"mask_truncated_completions": True, "temperature": 0.7}),
        (False, {"reward_clip_range": (0.5, 1.5), "normalize_advantages": True}),
        (True, {}),
        (True, {"num_iterations": 2, "max_steps": 4}),
    ],
    ids=str,
)
def test_losses_metrics_and_weights_are_those_of_trl(checkpoint, tmp_path, lora, settings):
    ours = same(checkpoint, tmp_path, prompts(), lora=lora, **settings)
    assert ours._shares_prefixes


def test_a_group_may_be_split_over_steps(checkpoint, tmp_path):
    # TRL shuffles answers, so those of a step differ, and with them what is averaged over tokens of a step
    settings = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}
    same(checkpoint, tmp_path, prompts(), left_out=["entropy"], **settings)


def test_several_steps_of_one_generation(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr("trl.trainer.rloo_trainer.shuffle_sequence_dict", lambda batch: batch)
    monkeypatch.setattr(Random, "shuffle", lambda self, order: None)
    same(checkpoint, tmp_path, prompts(), steps_per_generation=2, num_iterations=2, max_steps=8)


@pytest.mark.parametrize("family", ["llava", "qwen2_vl", "idefics3"])
def test_families(family, tmp_path):
    model, processor = FAMILIES[family]()
    model.save_pretrained(tmp_path)
    ours = same(str(tmp_path), tmp_path / "out", prompts(), processing_class=processor)
    assert ours._shares_prefixes


def test_the_layout_of_trl_gives_the_same(checkpoint, tmp_path):
    ours = same(checkpoint, tmp_path, prompts(), prefix_sharing=False)
    assert not ours._shares_prefixes


def test_rows_without_images_train_beside_rows_with(checkpoint, tmp_path):
    rows = prompts(4, images=[1, 0, 2, 0])
    settings = {"per_device_train_batch_size": 8, "max_steps": 4}
    shared, plain = (
        make(OurTrainer, checkpoint, tmp_path, rows, prefix_sharing=sharing, **settings) for sharing in (True, False)
    )
    for mine, reference in zip(logged(shared), logged(plain), strict=True):
        assert mine == pytest.approx(reference, abs=1e-5, rel=1e-4)
    assert len({entry["loss"] for entry in logged(shared)}) > 1


def sampled(checkpoint, folder, rows=None, reward_funcs=by_length, **settings):
    """Our trainer, which samples on its own."""
    return make(MMRLOOTrainer, checkpoint, folder, rows or prompts(), reward_funcs, **settings)


class Keeps:
    """A reward function that keeps what it was given."""

    def __init__(self, rewards=None):
        self.__name__ = "keeps"
        self.rewards, self.calls = rewards, []

    def __call__(self, completions, **given):
        self.calls.append({"completions": completions, **given})
        return self.rewards(len(completions)) if self.rewards else by_length(completions)


@pytest.fixture(scope="module")
def reward_checkpoint(checkpoint, tmp_path_factory):
    """A reward model whose head is not too near zero to matter."""
    folder = tmp_path_factory.mktemp("reward")
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint, num_labels=1)
    torch.manual_seed(1)
    torch.nn.init.normal_(model.score.weight, std=0.5)
    model.save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return str(folder)


def with_other_images(rows):
    return [{**row, "images": [tiny_image(100 + number, (40, 40))]} for number, row in enumerate(rows)]


@pytest.mark.parametrize("given", ["id", "model", "scorer"])
def test_another_image_changes_reward_advantage_and_loss(checkpoint, reward_checkpoint, tmp_path, given):
    kinds = {
        "id": lambda: reward_checkpoint,
        "model": lambda: AutoModelForSequenceClassification.from_pretrained(reward_checkpoint),
        "scorer": lambda: RewardModel(reward_checkpoint),
    }
    settings = {"num_iterations": 2, "max_steps": 2}  # the first loss is 0 whatever the advantages
    first, same_again, other = (
        logged(make(OurTrainer, checkpoint, tmp_path, rows, [kinds[given]()], **settings))
        for rows in (prompts(2), prompts(2), with_other_images(prompts(2)))
    )
    assert first == same_again
    assert first[0]["reward"] != other[0]["reward"]
    assert first[0]["grad_norm"] != other[0]["grad_norm"]
    assert first[1]["loss"] != other[1]["loss"]


def test_in_trl_another_image_changes_no_reward(checkpoint, reward_checkpoint, tmp_path):
    tokenizer = copy.deepcopy(tiny_processor().tokenizer)
    tokenizer.chat_template = TEMPLATE
    found = []
    for rows in (prompts(2), with_other_images(prompts(2))):
        trainer = TheirTrainer(
            checkpoint,
            AutoModelForSequenceClassification.from_pretrained(reward_checkpoint),
            args=arguments(tmp_path, RLOOConfig, max_steps=1),
            train_dataset=image_dataset(rows),
            reward_processing_classes=tokenizer,
        )
        found += logged(trainer, ["reward"])
    assert found[0] == found[1]


def test_rewards_are_named_as_in_trl(checkpoint, reward_checkpoint, tmp_path):
    trainer = sampled(checkpoint, tmp_path, reward_funcs=[reward_checkpoint, by_length], max_steps=1)
    assert trainer.reward_func_names == [Path(reward_checkpoint).name, "by_length"]


def test_reward_functions_get_what_trl_gives_them(checkpoint, tmp_path):
    rows = [{**row, "answer": f"answer {number}"} for number, row in enumerate(prompts(2))]
    theirs, ours = Keeps(), Keeps()
    for cls, reward in ((TheirTrainer, theirs), (OurTrainer, ours)):
        make(cls, checkpoint, tmp_path, rows, reward, max_steps=1).train()
    expected, found = theirs.calls[0], ours.calls[0]
    assert expected.keys() <= found.keys()
    assert [column["content"][-1] for prompt in found["prompts"] for column in prompt] == [
        column["content"][-1] for prompt in expected["prompts"] for column in prompt
    ]
    for name in ("completions", "completion_ids", "answer", "row_id"):
        assert found[name] == expected[name], name
    for images, reference in zip(found["images"], expected["images"], strict=True):
        assert [image.tobytes() for image in images] == [image.tobytes() for image in reference]
    assert [image.tobytes() for image in found["image"]] == [images[0].tobytes() for images in found["images"]]


@pytest.mark.parametrize("bad", ["text", "labels", "head", "blind"])
def test_reward_models_that_cannot_be_asked_are_refused(checkpoint, tmp_path, bad):
    folder = tmp_path / "bad"
    if bad == "labels":
        AutoModelForSequenceClassification.from_pretrained(checkpoint, num_labels=2).save_pretrained(folder)
        tiny_processor().save_pretrained(folder)
    elif bad == "text":
        config = LlamaConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
        AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    elif bad == "blind":
        folder = LlamaForSequenceClassification(
            LlamaConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
        )
    reward = str(folder) if bad in ("text", "labels") else folder if bad == "blind" else checkpoint
    messages = {"labels": "has 2 labels", "head": "no trained score"}
    with pytest.raises(ValueError, match=messages.get(bad, "`llama` model, which is no reward model for images")):
        sampled(checkpoint, tmp_path / "out", reward_funcs=reward)


def test_wrong_number_of_processors(checkpoint, tmp_path):
    with pytest.raises(ValueError, match="got 2 for 1"):
        with_images(by_length, [tiny_processor()] * 2)


def test_a_prompt_goes_through_the_model_once(checkpoint, tmp_path):
    trainer = sampled(checkpoint, tmp_path, prompts(2), per_device_train_batch_size=8, max_steps=1)
    processed = Mock(wraps=trainer.processing_class.image_processor.preprocess)
    with (
        patch.object(type(trainer.processing_class.image_processor), "preprocess", processed),
        counted_images(trainer.model) as counts,
    ):
        trainer.train()
    assert processed.call_count == 2
    # Sampling, the policy before and in the step, and the reference has a model of its own
    assert counts == [2, 2, 2]


def test_answers_depend_on_nothing_but_seed_step_row_and_number(checkpoint, tmp_path):
    def answers(rows, **settings):
        reward = Keeps()
        sampled(checkpoint, tmp_path, rows, reward, shuffle_dataset=False, max_steps=1, **settings).train()
        call = reward.calls[0]
        return list(zip(call["row_id"], call["completion_ids"], strict=True))

    one = answers(prompts(1))
    assert len({tuple(ids) for _, ids in one}) == 4
    two = answers(prompts(2), per_device_train_batch_size=8)
    assert two[:4] == one
    assert answers(prompts(2), per_device_train_batch_size=8, sampling_batch_size=4) == two
    assert answers(prompts(1), per_device_train_batch_size=2, gradient_accumulation_steps=2) == one
    assert answers(prompts(1), seed=1) != one


def test_no_image_token_is_sampled(checkpoint, tmp_path):
    model = AutoModelForImageTextToText.from_pretrained(checkpoint)
    image = tiny_processor().image_token_id
    with torch.no_grad():
        model.lm_head.weight[image] = 10 * model.lm_head.weight.abs().max()  # now it is likely
    reward = Keeps()
    sampled(model, tmp_path, reward_funcs=reward, beta=0.0, max_steps=1).train()
    ids = [token for call in reward.calls for answer in call["completion_ids"] for token in answer]
    assert ids and image not in ids


def test_rewards_that_are_missing_or_equal_are_counted(checkpoint, tmp_path):
    settings = {"per_device_train_batch_size": 8, "max_steps": 1, "beta": 0.0}
    missing = Keeps(lambda count: [None, 1.0, 1.0, 2.0, *[None] * 4])
    (entry,) = logged(sampled(checkpoint, tmp_path, prompts(2), missing, **settings), None)
    assert entry["frac_reward_missing"] == 5 / 8 and entry["frac_reward_equal"] == 0
    assert entry["reward"] == pytest.approx(4 / 3)
    equal = Keeps(lambda count: [1.0] * 4 + [1.0, 1.0, 1.0, 2.0])
    (entry,) = logged(sampled(checkpoint, tmp_path, prompts(2), equal, **settings), None)
    assert entry["frac_reward_equal"] == 0.5 and entry["frac_reward_missing"] == 0
    (entry,) = logged(sampled(checkpoint, tmp_path, prompts(2), Keeps(lambda n: [1.0] * n), **settings), None)
    assert entry["frac_reward_equal"] == 1 and entry["loss"] == 0 and entry["grad_norm"] == 0


def test_a_wrong_number_of_rewards_is_said(checkpoint, tmp_path):
    trainer = sampled(checkpoint, tmp_path, reward_funcs=Keeps(lambda count: [1.0] * (count - 1)), max_steps=1)
    with pytest.raises(ValueError, match="'keeps' returned 3 rewards, but 4 were expected"):
        trainer.train()


def test_answers_without_eos_lose_a_penalty(checkpoint, tmp_path):
    settings = {"max_completion_length": 3, "max_steps": 1}
    plain = Keeps(lambda count: [1.0] * count)
    rows = prompts(4)
    (entry,) = logged(sampled(checkpoint, tmp_path, rows, plain, missing_eos_penalty=0.5, **settings), None)
    share = entry["completions/clipped_ratio"]
    assert share > 0
    assert entry["reward"] == pytest.approx(1 - 0.5 * share)
    assert entry["rewards/missing_eos/mean"] == pytest.approx(-0.5 * share)
    nothing = Keeps(lambda count: [None] * count)
    (entry,) = logged(sampled(checkpoint, tmp_path, rows, nothing, missing_eos_penalty=0.5, **settings), None)
    assert entry["frac_reward_missing"] == 1 and entry["loss"] == 0


def test_answers_that_are_all_cut_and_masked_train_nothing(checkpoint, tmp_path):
    model = AutoModelForImageTextToText.from_pretrained(checkpoint)
    with torch.no_grad():
        model.lm_head.weight[tiny_processor().tokenizer.eos_token_id] = 0
    before = {name: value.clone() for name, value in model.named_parameters()}
    settings = {"max_completion_length": 2, "mask_truncated_completions": True, "max_steps": 1, "beta": 0.0}
    trainer = sampled(model, tmp_path, generation_kwargs={"suppress_tokens": [1]}, **settings)
    (entry,) = logged(trainer, None)
    assert entry["completions/clipped_ratio"] == 1
    for name, value in trainer.model.named_parameters():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_length": 20}, "`max_length` .20. less `max_completion_length` .12."),
        ({"max_length": None, "max_completion_length": 4090}, "context of the model .4096. less"),
    ],
)
def test_prompts_without_room_are_refused_before_training(checkpoint, tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        sampled(checkpoint, tmp_path, **settings)


def test_prompts_without_room_are_dropped_and_counted(checkpoint, tmp_path, caplog):
    rows = prompts(2, images=[1, 3])
    lengths = sampled(checkpoint, tmp_path, rows).fit_report["train"].counts.prompt
    most = int(min(lengths)) + 12
    trainer = sampled(checkpoint, tmp_path, rows, max_length=most)
    assert trainer.train_dataset["row_id"] == ["0"]
    assert f"1 of 2 rows of the train dataset have a prompt of more than {most - 12} tokens" in caplog.text
    with pytest.raises(ValueError, match="1 of 2 rows"):
        sampled(checkpoint, tmp_path, rows, max_length=most, overlong="error")


def test_settings_of_trl_alone_are_enough(checkpoint, tmp_path):
    args = arguments(tmp_path, RLOOConfig, max_steps=1)
    rows = image_dataset(prompts())
    trainer = MMRLOOTrainer(checkpoint, by_length, args, rows, rows, tiny_processor(), None, [], (None, None))
    assert trainer.args.max_length is None and trainer.args.prefix_sharing
    assert len(logged(trainer)) == 1


def test_settings_that_cannot_be_are_refused(checkpoint, tmp_path):
    for settings in ({"missing_eos_penalty": -1.0}, {"sampling_batch_size": 0}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            arguments(tmp_path, **settings)
    with pytest.raises(ValueError, match="chat_template_kwargs"):
        sampled(checkpoint, tmp_path, chat_template_kwargs={"think": False})


def test_evaluation_scores_answers(checkpoint, tmp_path):
    rows = prompts()
    trainer = sampled(checkpoint, tmp_path, rows, eval_dataset=image_dataset(rows[:2]), per_device_eval_batch_size=8)
    metrics = trainer.evaluate()
    assert metrics["eval_reward"] > 0 and metrics["eval_frac_reward_equal"] == 0
    assert trainer.evaluate()["eval_reward"] == metrics["eval_reward"]


def test_a_reward_model_reads_prompts_that_are_text(checkpoint, reward_checkpoint, tmp_path):
    messages = prompts(1)
    text = [{"images": row["images"], "prompt": "Describe the image.", "row_id": row["row_id"]} for row in messages]
    said = [{"role": "user", "content": "Describe the image."}]
    rewards = [
        logged(make(OurTrainer, checkpoint, tmp_path, rows, [reward_checkpoint], max_steps=1), ["reward"])
        for rows in (text, [{**row, "prompt": said} for row in text])
    ]
    assert rewards[0] == rewards[1]


def test_prompts_that_are_text_reach_reward_functions_as_text(checkpoint, tmp_path):
    reward = Keeps(lambda count: [1.0] * count)
    rows = [{"images": row["images"], "prompt": "Describe the image.", "row_id": row["row_id"]} for row in prompts(1)]
    sampled(checkpoint, tmp_path, rows, reward, max_steps=1).train()
    call = reward.calls[0]
    assert call["prompts"] == ["Describe the image."] * 4
    assert all(isinstance(text, str) for text in call["completions"])


def test_a_subclass_gets_log_probabilities_of_tokens(checkpoint, tmp_path):
    class PerToken(MMRLOOTrainer):
        keeps_token_log_probs = True

    trainer = make(PerToken, checkpoint, tmp_path, prompts(2), per_device_train_batch_size=8)
    trainer.model.train()
    batch = trainer._generate_and_score_completions([row for row in trainer.train_dataset for _ in range(4)])
    assert batch["rewards"].shape == (8,) and len(batch["rollout"].prompts) == 2
    old, ref = batch["old_token_log_probs"], batch["ref_token_log_probs"]
    assert old.shape == ref.shape == batch["completion_ids"].shape
    assert torch.equal((old * batch["completion_mask"]).sum(1), batch["old_logps"])
    torch.testing.assert_close(old, ref)


def test_vllm_is_told_which_tokens_are_banned(checkpoint, tmp_path):
    trainer = sampled(checkpoint, tmp_path, generation_kwargs={"bad_words": ["x"]})
    asked = []

    def generate(prompts, images, num_generations, profiler):
        asked.append((prompts, images))
        return None, [[5, 1]] * len(prompts), None, None

    trainer.vllm_generation = SimpleNamespace(generate=generate, sync_weights=lambda: None)
    trainer.use_vllm, trainer._last_loaded_step = True, -1
    trainer._ban_image_tokens()
    assert trainer.vllm_generation.generation_kwargs["bad_words"] == ["x", "<image>"]
    trainer.train()
    (ids, images), *_ = asked
    assert len(ids) == len(images) == 4
    assert ids[0].count(tiny_processor().image_token_id) > 1 and len(images[0]) == 1


def with_answers(count=4):
    rows = [tiny_row(seed, size=(30 + 10 * seed, 40), rejected=said("No. " * (1 + seed))) for seed in range(count)]
    return [{**row, "chosen": said("Yes. " * (2 + seed))} for seed, row in enumerate(rows)]


def test_rewards_are_normalised_with_those_of_the_rows(checkpoint, tmp_path):
    rows, reward = with_answers(), Keeps()
    settings = {"max_steps": 1, "beta": 0.0, "normalize_rewards": True}
    trainer = make(OurTrainer, checkpoint, tmp_path, rows, reward, **settings)
    lengths = torch.tensor([len(row[name][0]["content"]) / 10 for row in rows for name in ("chosen", "rejected")])
    mean, std = lengths.mean().item(), lengths.std(correction=0).item()
    stored = json.loads((tmp_path / "reward_scale.json").read_text())
    assert stored["scales"] == [pytest.approx([mean, std])] and stored["num_rows"] == 4
    assert {"prompts", "images", "image", "completion_ids", "trainer_state"} <= reward.calls[0].keys()
    assert isinstance(reward.calls[0]["prompts"][0][0]["content"], list)
    (entry,) = logged(trainer, None)
    (plain,) = logged(make(OurTrainer, checkpoint, tmp_path / "plain", rows, max_steps=1, beta=0.0), None)
    assert entry["reward"] == pytest.approx((plain["reward"] - mean) / std, abs=1e-5)


def test_the_scale_is_measured_once(checkpoint, tmp_path, caplog):
    rows, again = with_answers(), Keeps()
    sampled(checkpoint, tmp_path, rows, Keeps(), normalize_rewards=True)
    trainer = sampled(checkpoint, tmp_path, rows, again, normalize_rewards=True)
    assert again.calls == [] and trainer.reward_funcs[0].function is again
    fewer = Keeps()
    sampled(checkpoint, tmp_path, rows, fewer, normalize_rewards=True, normalization_rows=2)
    assert sum(len(call["completions"]) for call in fewer.calls) == 4
    assert "measured anew" in caplog.text
    (tmp_path / "reward_scale.json").write_text('{"scales": [')
    sampled(checkpoint, tmp_path, rows, again, normalize_rewards=True)
    assert again.calls and "cannot be read" in caplog.text


def test_a_rule_with_other_settings_is_measured_anew(checkpoint, tmp_path):
    def scale(target):
        trainer = sampled(checkpoint, tmp_path, with_answers(), LengthReward(target=target), normalize_rewards=True)
        return trainer.reward_funcs[0].mean, trainer.reward_funcs[0].std

    first = scale(2)
    file = (tmp_path / "reward_scale.json").read_text()
    assert scale(2) == first and (tmp_path / "reward_scale.json").read_text() == file
    assert scale(6) != first


def test_another_reward_model_is_measured_anew(checkpoint, reward_checkpoint, tmp_path):
    rows = with_answers()
    model = AutoModelForSequenceClassification.from_pretrained(reward_checkpoint)
    first = sampled(checkpoint, tmp_path, rows, model, normalize_rewards=True).reward_funcs[0]
    with torch.no_grad():
        model.score.weight *= 2
    second = sampled(checkpoint, tmp_path, rows, model, normalize_rewards=True).reward_funcs[0]
    assert second.mean == pytest.approx(2 * first.mean, rel=1e-4)


def test_rewards_that_cannot_be_normalised_are_refused(checkpoint, tmp_path):
    with pytest.raises(ValueError, match="measures the rewards of the answers in the rows, which have none"):
        sampled(checkpoint, tmp_path, normalize_rewards=True)
    with pytest.raises(ValueError, match="rewards that are all equal say nothing"):
        sampled(checkpoint, tmp_path, with_answers(), Keeps(lambda count: [1.0] * count), normalize_rewards=True)


class StopAfter(TrainerCallback):
    def __init__(self, steps):
        self.steps = steps

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step >= self.steps


@pytest.mark.parametrize(
    ("settings", "stop"),
    [
        ({"num_train_epochs": 3, "per_device_train_batch_size": 8}, 3),
        ({"steps_per_generation": 2, "num_iterations": 2, "num_train_epochs": 2}, 3),
        ({"steps_per_generation": 4, "gradient_accumulation_steps": 2, "num_train_epochs": 2}, 3),
    ],
    ids=["second epoch", "within a rollout", "within a rollout of two steps"],
)
def test_a_resumed_run_ends_as_an_undisturbed_one(checkpoint, tmp_path, settings, stop):
    def run(name, stop=None, resume=None):
        reward = Keeps()
        settled = {"max_steps": -1, "save_strategy": "steps", "save_steps": 1, **settings}
        trainer = sampled(checkpoint, tmp_path / name, prompts(4), reward, **settled)
        if stop is not None:
            trainer.add_callback(StopAfter(stop))
        trainer.train(resume_from_checkpoint=resume)
        names = ("loss", "grad_norm", "reward", "kl")
        steps = [entry for entry in trainer.state.log_history if "loss" in entry]
        return [{n: entry[n] for n in names if n in entry} for entry in steps], dict(trainer.model.named_parameters())

    expected, weights = run("undisturbed")
    run("killed", stop)
    steps, ended = run("killed", resume=True)
    assert len(expected) > stop and steps == expected
    for name, value in weights.items():
        assert torch.equal(ended[name], value), name


def test_all_processes_take_up_a_kept_rollout_or_none(checkpoint, tmp_path, monkeypatch):
    settings = {"steps_per_generation": 4, "max_steps": 2, "save_strategy": "steps", "save_steps": 2}
    sampled(checkpoint, tmp_path, prompts(4), **settings).train()
    trainer = sampled(checkpoint, tmp_path, prompts(4), **settings)
    saved = str(tmp_path / "checkpoint-2")
    batch = list(trainer.get_train_dataloader())[0]
    trainer._load_rng_state(saved)
    assert trainer._step == 2 and trainer._resumed(batch, trainer._kept_rollout) is not None
    monkeypatch.setattr(rloo_trainer, "gather_object", lambda found: [*found, type(found[0])(0)])  # another process
    assert trainer._resumed(batch, trainer._kept_rollout) is None
    trainer._load_rng_state(saved)
    assert trainer._step == 2 and trainer._kept_rollout is None


def test_under_zero3_all_processes_read_equally_often(checkpoint, tmp_path, monkeypatch):
    trainer = sampled(checkpoint, tmp_path)
    torn, other = ([0, 0, 0, 1, 1, 1, 2, 2], [0, 1, 1, 1, 2, 2, 2, 3])  # groups of three on processes of eight
    parts = [len(trainer.parts_of(Rollout([], [], numbers, []), 4)) for numbers in (torn, other)]
    assert parts[0] != parts[1]
    monkeypatch.setattr(rollouts, "is_deepspeed_zero3_enabled", lambda: True)
    assert trainer.parts_of(Rollout([], [], torn, []), 4) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert trainer.parts_of(Rollout([], [], other, []), 5) == [[0, 1, 2, 3, 4], [5, 6, 7]]
