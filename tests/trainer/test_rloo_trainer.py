"""`MMRLOOTrainer` beside TRL's `RLOOTrainer`, with the same samples, and where TRL's does not look at the image."""

from random import Random

import pytest
import torch
from peft import LoraConfig
from support.families import FAMILIES
from support.rows import image_dataset
from support.tiny import TRAINING, tiny_row
from trl import RLOOConfig, RLOOTrainer

from trl_mm import MMRLOOConfig, MMRLOOTrainer
from trl_mm.data.seeds import derived_seed


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
    return [{name: entry[name] for name in names if name in entry} for entry in entries]


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
    names = [name for name in METRICS if name not in left_out]
    for mine, reference in zip(logged(ours, names), logged(theirs, names), strict=True):
        assert mine == pytest.approx(reference, abs=1e-5, rel=1e-4)
    before = dict(make(OurTrainer, checkpoint, folder, rows, **settings).model.named_parameters())
    expected = dict(theirs.model.named_parameters())
    for name, value in ours.model.named_parameters():
        torch.testing.assert_close(value, expected[name], atol=1e-5, rtol=1e-4)
    assert any(not torch.equal(value, expected[name]) for name, value in before.items())
    return ours


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"beta": 0.0},
        {"num_iterations": 2, "max_steps": 4},
        {"gradient_accumulation_steps": 2},
        {"mask_truncated_completions": True, "temperature": 0.7},
        {"reward_clip_range": (0.5, 1.5), "normalize_advantages": True},
    ],
    ids=str,
)
def test_losses_metrics_and_weights_are_those_of_trl(checkpoint, tmp_path, settings, lora):
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
