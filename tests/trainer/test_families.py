"""`MMDPOTrainer` beside TRL's `DPOTrainer` on further families: losses and gradients of every step."""

import copy
import functools
import logging
import random

import pytest
import torch
from support.families import FAMILIES, family
from support.rows import image_dataset
from support.tiny import TEXTS, tiny_image
from transformers import TrainerCallback
from trl import DPOConfig, DPOTrainer

from trl_mm import MMDPOConfig, MMDPOTrainer
from trl_mm.tokens import families
from trl_mm.trainer.prefix_sharing.image_features import vision_part


SIZES = [(40, 30), (30, 60), (90, 30), (20, 20)]


def row(draw, num_images):
    def text(longest):
        return " ".join(draw.choice(TEXTS[0].split()) for _ in range(draw.randint(1, longest)))

    return {
        "images": [tiny_image(draw.randint(0, 99), draw.choice(SIZES)) for _ in range(num_images)],
        "prompt": [{"role": "user", "content": text(12)}],
        "chosen": [{"role": "assistant", "content": text(9)}],
        "rejected": [{"role": "assistant", "content": text(9)}],
    }


def dataset(seed, counts):
    """Rows with as many images each as `counts` says."""
    draw = random.Random(seed)
    return image_dataset([row(draw, count) for count in counts])


class Gradients(TrainerCallback):
    def __init__(self):
        self.steps = []

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.steps.append({name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()})


def train(trainer_class, config_class, folder, name, rows, batch_size, frozen=False, **settings):
    """Losses and gradients of every step, without shuffling or clipping."""
    model, processor = family(name)
    model, reference = copy.deepcopy(model), copy.deepcopy(model)
    if frozen:
        for parameter in vision_part(model.base_model).values():
            parameter.requires_grad = False
        assert model.get_input_embeddings().weight.requires_grad
    torch.manual_seed(1)
    with torch.no_grad():  # where policy and reference agree, the loss says nothing
        for other, parameter in zip(reference.parameters(), model.parameters(), strict=True):
            if parameter.requires_grad:
                other += 0.02 * torch.randn(other.shape)
    gradients = Gradients()
    trainer = trainer_class(
        model,
        ref_model=reference,
        args=config_class(
            output_dir=str(folder),
            per_device_train_batch_size=batch_size,
            num_train_epochs=1,
            learning_rate=1e-2,
            optim="sgd",
            max_grad_norm=0,
            logging_steps=1,
            report_to="none",
            save_strategy="no",
            bf16=False,
            use_cpu=True,
            max_length=None,
            train_sampling_strategy="sequential",
            **settings,
        ),
        train_dataset=rows,
        processing_class=processor,
        callbacks=[gradients],
    )
    trainer.train()
    return [entry for entry in trainer.state.log_history if "loss" in entry], gradients.steps


def check_equal(ours, theirs):
    """Loss, log-probabilities and gradients of every step; gradients relative to the largest entry of all."""
    (logs, gradients), (wanted_logs, wanted_gradients) = ours, theirs
    assert len(logs) == len(wanted_logs) == len(gradients) > 0
    for name in ("loss", "logps/chosen", "logps/rejected", "entropy"):
        got, wanted = [[entry[name] for entry in log] for log in (logs, wanted_logs)]
        assert got == pytest.approx(wanted, rel=2e-4, abs=2e-4), name
    for step, wanted in zip(gradients, wanted_gradients, strict=True):
        scale = max(gradient.abs().max() for gradient in wanted.values() if gradient is not None)
        for name, gradient in wanted.items():
            assert (step[name] is None) == (gradient is None), name
            if gradient is not None:
                assert (step[name] - gradient).abs().max() <= 1e-4 * scale, name


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(
    ("seed", "counts", "batch_size"),
    [(0, [1, 2, 0, 1, 1, 1], 3), (1, [0, 0, 2, 0], 2)],
    ids=["one batch with a row without images", "one batch without images"],
)
def test_losses_and_gradients_are_those_of_trl(name, seed, counts, batch_size, tmp_path, caplog):
    rows = dataset(seed, counts)
    with caplog.at_level(logging.INFO, logger="trl_mm"):
        ours = train(MMDPOTrainer, MMDPOConfig, tmp_path, name, rows, batch_size)
    check_equal(ours, train(DPOTrainer, DPOConfig, tmp_path, name, rows, batch_size))
    assert "Prefixes are not shared" not in caplog.text


@pytest.mark.parametrize("name", FAMILIES)
def test_rows_of_one_image_are_computed_together(name, tmp_path, monkeypatch):
    # Images of these models have few tokens, and would not make up for any padding
    monkeypatch.setattr("trl_mm.tokens.collator.settled_groups", lambda groups, *_: groups)
    draw = random.Random(3)
    first, second, third = row(draw, 1), row(draw, 2), row(draw, 0)
    rows = image_dataset(
        [
            first,
            {**row(draw, 0), "images": first["images"]},
            {**first, "rejected": second["chosen"]},
            second,
            {**second, "prompt": first["prompt"]},
            {**second, "chosen": second["rejected"]},
            {**first, "chosen": [{"role": "assistant", "content": first["rejected"][0]["content"] + " It is late."}]},
            third,
            {**third, "chosen": third["rejected"], "rejected": third["chosen"]},
        ]
    )
    logs, gradients = train(MMDPOTrainer, MMDPOConfig, tmp_path, name, rows, 3)
    check_equal((logs, gradients), train(DPOTrainer, DPOConfig, tmp_path, name, rows, 3))
    assert all(entry["shared_tokens"] > 0.45 for entry in logs)


@pytest.mark.parametrize("name", ["gemma3", "idefics3", "qwen2_5_vl"])
def test_families_that_are_not_supported_train_in_trls_layout(name, tmp_path, caplog, monkeypatch):
    monkeypatch.delitem(families.FAMILIES, name)
    rows = dataset(0, [1, 2, 0])
    with caplog.at_level(logging.INFO, logger="trl_mm"):
        ours = train(MMDPOTrainer, MMDPOConfig, tmp_path, name, rows, 3)
    check_equal(ours, train(DPOTrainer, DPOConfig, tmp_path, name, rows, 3))
    assert caplog.text.count(f"Prefixes are not shared: it is not supported for `{name}`") == 1


@pytest.mark.parametrize("name", FAMILIES)
def test_features_of_a_frozen_vision_part_serve_policy_and_reference(name, tmp_path, monkeypatch):
    backbone, calls = type(family(name)[0].base_model), []
    compute = backbone.get_image_features

    @functools.wraps(compute)
    def counted(self, *args, **kwargs):
        calls.append(self)
        return compute(self, *args, **kwargs)

    monkeypatch.setattr(backbone, "get_image_features", counted)
    monkeypatch.setattr("trl_mm.trainer.parts.prepare.check_image_features", lambda model, processor: None)
    rows = dataset(2, [1, 0, 2, 1])
    ours = train(MMDPOTrainer, MMDPOConfig, tmp_path, name, rows, 2, frozen=True)
    assert len(calls) == 2  # one for each step
    check_equal(ours, train(DPOTrainer, DPOConfig, tmp_path, name, rows, 2, frozen=True))


def test_a_processor_that_counts_image_tokens_otherwise_is_refused_before_the_first_step(tmp_path):
    model, processor = family("qwen2_vl")
    processor = copy.deepcopy(processor)
    processor.image_processor.merge_size = 1
    with pytest.raises(ValueError, match="The processor and the model do not agree on an image"):
        MMDPOTrainer(
            copy.deepcopy(model),
            ref_model=copy.deepcopy(model),
            args=MMDPOConfig(str(tmp_path), bf16=False, use_cpu=True, report_to="none"),
            train_dataset=dataset(0, [1]),
            processing_class=processor,
        )
