"""`MMRewardTrainer` beside TRL's `RewardTrainer`, which is handed batches with images by a collator of this test."""

import json

import pytest
import torch
from peft import LoraConfig, PeftModel
from support.families import FAMILIES
from support.rows import image_dataset, said
from support.tiny import TRAINING, tiny_image, tiny_processor, tiny_row
from support.training import losses
from transformers import AutoModelForSequenceClassification, TrainerCallback
from trl import RewardConfig, RewardTrainer

from trl_mm import MMRewardConfig, MMRewardTrainer
from trl_mm.reward.measures import measure_pairs, metrics_of
from trl_mm.reward.models import LlavaNextForSequenceClassification
from trl_mm.reward.scorer import RewardModel
from trl_mm.tokens.collator import PreferenceCollator


def pairs(count=6, **columns):
    return [
        {
            **tiny_row(seed, size=(30 + 10 * seed, 40)),
            "rejected": said("There is a dog." * (1 + seed % 3)),
            **{name: values[seed] for name, values in columns.items()},
        }
        for seed in range(count)
    ]


def arguments(folder, cls=MMRewardConfig, **settings):
    return cls(
        **{
            "output_dir": str(folder),
            "per_device_train_batch_size": 2,
            "max_steps": 4,
            "learning_rate": 1e-2,
            "logging_steps": 1,
            "gradient_checkpointing": False,
            "max_length": None,
            **TRAINING,
            **settings,
        }
    )


@pytest.fixture(scope="module")
def reward_checkpoint(checkpoint, tmp_path_factory):
    """A reward model whose head is not too near zero to matter."""
    folder = tmp_path_factory.mktemp("reward")
    torch.manual_seed(1)
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint, num_labels=1)
    torch.nn.init.normal_(model.score.weight, std=0.5)
    model.save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return str(folder)


class StopAfter(TrainerCallback):
    def __init__(self, steps):
        self.steps = steps

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step >= self.steps


class SeeingCollator:
    """Batches with images for TRL's trainer."""

    def __init__(self):
        self.collator = PreferenceCollator(tiny_processor())

    def __call__(self, rows):
        batch = self.collator(rows)
        del batch["completion_mask"]
        if "margin" in rows[0]:
            batch["margin"] = torch.tensor([row["margin"] for row in rows])
        return batch


def of_trl(checkpoint, folder, rows, **settings):
    """TRL's trainer that is shown the images."""
    dataset = image_dataset([{**row, "chosen_ids": [0], "rejected_ids": [0]} for row in rows])
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint)
    args = arguments(folder, RewardConfig, remove_unused_columns=False, **settings)
    tokenizer = tiny_processor().tokenizer
    return RewardTrainer(
        model, args=args, data_collator=SeeingCollator(), train_dataset=dataset, processing_class=tokenizer
    )


@pytest.mark.parametrize("settings", [{}, {"center_rewards_coefficient": 0.1}], ids=str)
@pytest.mark.parametrize("margin", [False, True])
def test_losses_are_those_of_trl_step_by_step(reward_checkpoint, tmp_path, settings, margin):
    rows = pairs(margin=[0.1, 0.5, 0.0, 1.0, 0.3, 0.2]) if margin else pairs()
    theirs = losses(of_trl(reward_checkpoint, tmp_path, rows, **settings))
    for sharing in (True, False):
        args = arguments(tmp_path, prefix_sharing=sharing, **settings)
        ours = MMRewardTrainer(reward_checkpoint, args=args, train_dataset=image_dataset(rows))
        assert ours.pair_collator.images_per_prompt == sharing
        assert losses(ours) == pytest.approx(theirs, abs=1e-4)
        assert len(set(theirs)) > 1


def test_a_margin_that_only_some_rows_have_is_zero_in_the_others(reward_checkpoint, tmp_path, caplog):
    some, zeros = (image_dataset(pairs(margin=[0.1, 0.5, none, 1.0, none, 0.2])) for none in (None, 0.0))
    trained = [
        losses(MMRewardTrainer(reward_checkpoint, args=arguments(tmp_path), train_dataset=rows))
        for rows in (some, zeros)
    ]
    assert trained[0] == trained[1]
    assert "2 rows of the train dataset have no `margin`" in caplog.text


def test_rows_of_one_image_have_the_losses_of_trl(reward_checkpoint, tmp_path):
    first, second, third, *_ = pairs()
    rows = [
        first,
        {**first, "rejected": second["chosen"]},
        {**second, "images": first["images"]},
        {**second, "chosen": second["rejected"], "rejected": second["chosen"]},
        second,
        third,
    ]
    settings = {"per_device_train_batch_size": 3, "train_sampling_strategy": "sequential"}
    theirs = losses(of_trl(reward_checkpoint, tmp_path, rows, **settings))
    args = arguments(tmp_path, **settings)
    ours = MMRewardTrainer(reward_checkpoint, args=args, train_dataset=image_dataset(rows))
    assert losses(ours) == pytest.approx(theirs, abs=1e-4)
    assert all(entry["shared_tokens"] > 0.3 for entry in ours.state.log_history if "loss" in entry)


def test_metrics_are_those_of_trl(reward_checkpoint, tmp_path):
    rows = pairs()
    logs = []
    for trainer in (
        of_trl(reward_checkpoint, tmp_path, rows),
        MMRewardTrainer(reward_checkpoint, args=arguments(tmp_path), train_dataset=image_dataset(rows)),
    ):
        trainer.train()
        logs.append(trainer.state.log_history)
    names = ["accuracy", "margin", "min_reward", "mean_reward", "max_reward", "num_tokens"]
    for theirs, ours in zip(*logs, strict=True):
        assert {name: ours.get(name) for name in names} == pytest.approx(
            {name: theirs.get(name) for name in names}, abs=1e-3
        )


@pytest.mark.parametrize("family", FAMILIES)
def test_shared_prefixes_give_the_scores_of_the_plain_layout(family, tmp_path):
    made, processor = FAMILIES[family]()
    made.save_pretrained(tmp_path)
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path, num_labels=1)
    torch.nn.init.normal_(model.score.weight)
    rows = image_dataset(pairs(4))
    found = {}
    for sharing in (True, False):
        args = arguments(tmp_path / "out", prefix_sharing=sharing)
        trainer = MMRewardTrainer(model, args=args, train_dataset=rows, processing_class=processor)
        model.eval()
        with torch.no_grad():
            inputs = trainer._prepare_inputs(trainer.data_collator([rows[index] for index in range(4)]))
            found[sharing] = trainer.model(**inputs).logits
    assert found[True].shape == (8, 1)
    assert torch.allclose(found[True], found[False], atol=2e-4, rtol=1e-4)


def test_another_image_is_another_loss(reward_checkpoint, tmp_path):
    """TRL's own trainer scores the text alone."""
    other = [{**row, "images": [tiny_image(50 + index)]} for index, row in enumerate(pairs())]
    same_size = [{**row, "images": [tiny_image(index)]} for index, row in enumerate(pairs())]
    first, second = (
        losses(MMRewardTrainer(reward_checkpoint, args=arguments(tmp_path), train_dataset=image_dataset(rows)))
        for rows in (same_size, other)
    )
    assert first != pytest.approx(second, abs=1e-4)


def test_a_lora_is_saved_with_its_score_and_loads_again(checkpoint, tmp_path):
    args = arguments(tmp_path / "out", save_strategy="steps", save_steps=4)
    trainer = MMRewardTrainer(
        checkpoint, args=args, train_dataset=image_dataset(pairs()), peft_config=LoraConfig(r=2, lora_alpha=4)
    )
    before = trainer.model.base_model.model.score.modules_to_save.default.weight.clone()
    trainer.train()
    head = trainer.model.base_model.model.score.modules_to_save.default.weight
    assert not torch.equal(before, head)
    config = json.loads((tmp_path / "out" / "checkpoint-4" / "adapter_config.json").read_text())
    assert config["task_type"] == "SEQ_CLS" and "score" in config["modules_to_save"]
    assert (tmp_path / "out" / "checkpoint-4" / "processor_config.json").exists()
    base = AutoModelForSequenceClassification.from_pretrained(checkpoint, num_labels=1)
    loaded = PeftModel.from_pretrained(base, tmp_path / "out" / "checkpoint-4").eval()
    batch = SeeingCollator()([image_dataset(pairs())[0]])
    with torch.no_grad():
        expected = trainer.model.eval()(**batch).logits
        assert torch.allclose(loaded(**batch).logits, expected, atol=1e-5)


def test_a_generation_checkpoint_becomes_a_reward_model_that_auto_classes_load(checkpoint, tmp_path):
    held_out = {"one": image_dataset(pairs(2)), "two": image_dataset(pairs(4))}
    rows = {"train_dataset": image_dataset(pairs()), "eval_dataset": held_out}
    trainer = MMRewardTrainer(checkpoint, args=arguments(tmp_path / "out"), **rows)
    assert type(trainer.model) is LlavaNextForSequenceClassification and trainer.model.config.num_labels == 1
    assert list(trainer.fit_report) == ["train", "eval_one", "eval_two"]
    trainer.train()
    metrics = trainer.evaluate()
    assert {f"eval_{name}_{metric}" for name in held_out for metric in ("loss", "accuracy", "margin")} <= set(metrics)
    assert {"eval_loss", "eval_accuracy"} <= set(trainer.evaluate(held_out["one"]))
    trainer.save_model()
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert torch.equal(again.score.weight, trainer.model.score.weight)


@pytest.mark.parametrize("sharing", [True, False])
def test_an_evaluation_measures_each_pair_once(reward_checkpoint, tmp_path, sharing):
    """Five rows in batches of two: the mean over batches, which TRL logs, is not that over rows."""
    rows = image_dataset(pairs(5))
    args = arguments(tmp_path, prefix_sharing=sharing, per_device_eval_batch_size=2)
    sets = {"held_out": rows, "few": rows.select([3])}
    trainer = MMRewardTrainer(reward_checkpoint, args=args, train_dataset=rows, eval_dataset=sets)
    metrics = trainer.evaluate()
    scorer = RewardModel(reward_checkpoint)
    chosen, rejected = (scorer(rows["prompt"], rows[name], rows["images"]) for name in ("chosen", "rejected"))
    tokenizer = tiny_processor().tokenizer
    # Of the answer and its EOS token
    lengths = [
        tuple(len(tokenizer(row[name][0]["content"])["input_ids"]) + 1 for name in ("chosen", "rejected"))
        for row in rows
    ]
    measures = measure_pairs([a - b for a, b in zip(chosen, rejected, strict=True)], lengths)
    assert trainer.evaluations["held_out"]["by_length"] == measures["by_length"]
    expected = {f"eval_held_out_{name}": value for name, value in metrics_of(measures).items()}
    assert {name: metrics[name] for name in expected} == pytest.approx(expected, abs=1e-4)
    assert metrics["eval_few_accuracy"] in (0.0, 1.0) and trainer.evaluations["few"]["num_pairs"] == 1
    logged = {name for entry in trainer.state.log_history for name in entry}
    assert {*expected, "eval_few_ece"} <= logged
    assert {"eval_ece", "eval_accuracy"} <= set(trainer.evaluate(rows)) and "eval" in trainer.evaluations
    assert {"test_ece", "test_accuracy"} <= set(trainer.predict(rows).metrics)
    trainer.create_model_card()
    card = (tmp_path / "README.md").read_text()
    assert "## Evaluation" in card and f"| held&#95;out | 5 | {measures['accuracy']:.1%} |" in card.replace(
        "held_out", "held&#95;out"
    )


def test_a_killed_run_ends_as_an_undisturbed_one(reward_checkpoint, tmp_path):
    rows = image_dataset(pairs())
    settings = {"save_strategy": "steps", "save_steps": 2}
    whole = MMRewardTrainer(reward_checkpoint, args=arguments(tmp_path / "whole", **settings), train_dataset=rows)
    expected = losses(whole)
    killed = MMRewardTrainer(reward_checkpoint, args=arguments(tmp_path / "killed", **settings), train_dataset=rows)
    killed.add_callback(StopAfter(2))
    killed.train()
    again = MMRewardTrainer(reward_checkpoint, args=arguments(tmp_path / "killed", **settings), train_dataset=rows)
    again.train(resume_from_checkpoint=True)
    found = [entry["loss"] for entry in again.state.log_history if "loss" in entry]
    assert found == pytest.approx(expected, abs=1e-6)
    for left, right in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.allclose(left, right, atol=1e-6)


def test_rows_of_similar_length_make_a_batch(reward_checkpoint, tmp_path):
    args = arguments(tmp_path, train_sampling_strategy="group_by_length")
    trainer = MMRewardTrainer(reward_checkpoint, args=args, train_dataset=image_dataset(pairs()))
    assert sorted(trainer._get_train_sampler()) == list(range(6))
    with pytest.raises(ValueError, match="`train_sampling_strategy='batch_rebalance'`"):
        arguments(tmp_path, train_sampling_strategy="batch_rebalance")


def test_bad_models_and_rows_are_refused(reward_checkpoint, tmp_path):
    two = AutoModelForSequenceClassification.from_pretrained(
        reward_checkpoint, num_labels=2, ignore_mismatched_sizes=True
    )
    with pytest.raises(ValueError, match="num_labels=2"):
        MMRewardTrainer(two, args=arguments(tmp_path), train_dataset=image_dataset(pairs()))
    with pytest.raises(ValueError, match="column `rejected` is missing"):
        MMRewardTrainer(reward_checkpoint, args=arguments(tmp_path), train_dataset=image_dataset([tiny_row(0)]))
    with pytest.raises(TypeError, match="`processing_class` must be the processor"):
        MMRewardTrainer(
            reward_checkpoint,
            args=arguments(tmp_path),
            train_dataset=image_dataset(pairs()),
            processing_class=tiny_processor().tokenizer,
        )
