"""Our rewards in TRL's trainers and ours."""

from copy import deepcopy

import pytest
import torch
from support.rows import image_dataset, said
from support.tiny import TRAINING, tiny_image, tiny_processor
from transformers import AutoModelForSequenceClassification
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from trl_mm import MMOnlineDPOConfig, MMOnlineDPOTrainer, RewardModel
from trl_mm.reward.combined import NormalizedReward, WeightedReward
from trl_mm.reward.verifiable import LengthReward, ObjectsReward, YesNoReward


def prompts(count=2, **columns):
    values = {"label": ["yes", None], "objects": [["dog"], ["cat", "dog"]], **columns}
    return image_dataset(
        [
            {
                "images": [tiny_image(seed, (30 + 10 * seed, 40))],
                "prompt": [{"role": "user", "content": "Is there a dog?"}],
                "row_id": str(seed),
                **{name: value[seed] for name, value in values.items()},
            }
            for seed in range(count)
        ]
    )


def mixed():
    return [
        WeightedReward({ObjectsReward(): 1.0, NormalizedReward(LengthReward(1), -1.0, 2.0): 0.5}),
        YesNoReward(),
        ObjectsReward("chair", name="chair"),
    ]


class Kept:
    """A reward function that keeps what it was given and what it gave."""

    def __init__(self, function):
        self.function, self.__name__, self.calls = function, function.__name__, []

    def __call__(self, prompts, completions, **columns):
        rewards = self.function(prompts, completions, **columns)
        self.calls.append((completions, columns, rewards))
        return rewards


@pytest.mark.parametrize(("trainer", "config"), [(RLOOTrainer, RLOOConfig), (GRPOTrainer, GRPOConfig)])
def test_a_step_of_trls_trainers(checkpoint, tmp_path, trainer, config):
    functions = [Kept(function) for function in mixed()]
    args = config(
        str(tmp_path), per_device_train_batch_size=4, num_generations=2, max_completion_length=6, max_steps=1,
        learning_rate=1e-2, logging_steps=1, **TRAINING,
    )  # fmt: skip
    made = trainer(checkpoint, functions, args=args, train_dataset=prompts(), processing_class=tiny_processor())
    made.train()
    (log,) = (entry for entry in made.state.log_history if "loss" in entry)
    for function in functions:
        [(completions, columns, rewards)] = function.calls
        assert len(completions) == len(columns["images"]) == 4
        known = [reward for reward in rewards if reward is not None]
        assert log[f"rewards/{function.__name__}/mean"] == pytest.approx(sum(known) / len(known), abs=1e-5)
    assert sorted(map(str, functions[1].calls[0][1]["label"])) == ["None", "None", "yes", "yes"]


def test_a_step_of_online_dpo(checkpoint, tmp_path):
    functions = [Kept(function) for function in mixed()]
    args = MMOnlineDPOConfig(
        str(tmp_path), per_device_train_batch_size=2, max_new_tokens=6, max_steps=1, logging_steps=1, **TRAINING
    )
    trainer = MMOnlineDPOTrainer(checkpoint, reward_funcs=functions, args=args, train_dataset=prompts())
    trainer.train()
    (log,) = (entry for entry in trainer.state.log_history if "loss" in entry)
    totals = [sum(filter(None, rewards)) for rewards in zip(*(f.calls[0][2] for f in functions), strict=True)]
    assert len(totals) == 4 and log["objective/scores"] == pytest.approx(sum(totals) / 4, abs=1e-4)


def reward_model(checkpoint):
    torch.manual_seed(1)
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint, num_labels=1)
    torch.nn.init.normal_(model.score.weight, std=0.5)
    return model.eval()


@pytest.mark.parametrize("sees", [True, False])
def test_only_as_a_function_a_reward_model_sees_the_image_in_rloo(checkpoint, tmp_path, sees):
    """TRL scores answers by a model without pixels: whatever the image, the reward is the same."""
    model, processor = reward_model(checkpoint), tiny_processor()
    tokenizer = deepcopy(processor.tokenizer)
    tokenizer.chat_template = processor.chat_template
    args = RLOOConfig(str(tmp_path), per_device_train_batch_size=2, num_generations=2, **TRAINING)
    rows = prompts()
    trainer = RLOOTrainer(
        checkpoint,
        RewardModel(model, processor) if sees else model,
        args=args,
        train_dataset=rows,
        processing_class=processor,
        reward_processing_classes=None if sees else tokenizer,
    )
    rewards = []
    for seed in (0, 1):
        image = rows[seed]["images"][0]
        prompt = [{"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": "What?"}]}]
        inputs = [{"prompt": prompt, "images": [image]}]
        rewards.append(trainer._calculate_rewards(inputs, [prompt], [said("Yes.")], [[5, 1]]).item())
    assert (rewards[0] != pytest.approx(rewards[1], abs=1e-3)) == sees
