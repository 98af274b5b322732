"""`MMDPOTrainer` beside TRL's `DPOTrainer` on further families: losses and gradients of every step."""

import copy
import logging
import random

import pytest
import torch
from datasets import Dataset, Image, List
from families import FAMILIES, family
from tiny import TEXTS, tiny_image
from transformers import TrainerCallback
from trl import DPOConfig, DPOTrainer

from trl_mm import MMDPOConfig, MMDPOTrainer
from trl_mm.trainer.prefix_sharing import why_not


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
    return Dataset.from_list([row(draw, count) for count in counts]).cast_column("images", List(Image()))


class Gradients(TrainerCallback):
    def __init__(self):
        self.steps = []

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.steps.append({name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()})


def train(trainer_class, config_class, folder, name, rows, batch_size, **settings):
    """Losses and gradients of every step, without shuffling or clipping."""
    model, processor = family(name)
    reference = copy.deepcopy(model)
    torch.manual_seed(1)
    with torch.no_grad():  # where policy and reference agree, the loss says nothing
        for parameter in reference.parameters():
            parameter += 0.02 * torch.randn(parameter.shape)
    gradients = Gradients()
    trainer = trainer_class(
        copy.deepcopy(model),
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
    said = [record.message for record in caplog.records if "Prefixes are not shared" in record.message]
    reason = why_not(family(name)[0])
    assert len(said) == (reason is not None) and all(reason in message for message in said)
