from types import SimpleNamespace

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForImageTextToText

from trl_mm.bench.dpo import OURS, make_trainer
from trl_mm.bench.dpo_config import DPOBenchmark
from trl_mm.bench.memory import peak_memory
from trl_mm.bench.models import llava_next
from trl_mm.bench.rows import random_pairs
from trl_mm.tokens.lengths import TokenCounts, count_tokens
from trl_mm.trainer.estimate.memory import LargestBatch, LayerShape, expected_memory, image_patches, largest_batch
from trl_mm.trainer.estimate.sharding import Sharding
from trl_mm.trainer.shared_base import new_value_model


NOTHING = LargestBatch(0, 0, 0)
NAMES = "q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj"


def meta_model(size="tiny", dtype=torch.float32, rank=None):
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(llava_next(size)[0], dtype=dtype)
        if rank is not None:
            model = get_peft_model(model, LoraConfig(r=rank, target_modules=rf".*language_model.*\.({NAMES})"))
    return model


def memory(model, sharding, optim="adamw_torch", batch=NOTHING, reference=True, checkpointing=True):
    args = SimpleNamespace(optim=optim, gradient_checkpointing=checkpointing)
    return expected_memory(model, args, sharding, batch, reference)


def counts(*rows):
    return TokenCounts(*(np.array(column) for column in zip(*rows, strict=True)), np.zeros(len(rows), dtype=int))


def test_float32_in_one_process_takes_16_bytes_a_weight_and_4_for_the_reference():
    model = meta_model()
    size = sum(p.numel() for p in model.parameters())
    expected = memory(model, Sharding())
    assert (expected.weights, expected.reference, expected.gradients) == (4 * size, 4 * size, 4 * size)
    assert (expected.optimizer, expected.buffers, expected.host) == (8 * size, 0, 0)
    assert memory(model, Sharding(), reference=False).reference == 0
    assert memory(model, Sharding(num_processes=2)).gradients == 8 * size  # and DDP's buckets


@pytest.mark.parametrize(
    ("stage", "weights", "gradients", "optimizer"),
    [(1, 2, 2, 12 / 4), (2, 2, 2 / 4, 12 / 4), (3, 2 / 4, 2 / 4, 12 / 4)],
)
def test_zero_splits_the_two_two_and_twelve_bytes_of_a_weight(stage, weights, gradients, optimizer):
    model = meta_model()
    size = sum(p.numel() for p in model.parameters())
    expected = memory(model, Sharding(4, True, stage, mixed_precision="bf16"))
    assert expected.weights == expected.reference == int(weights * size)
    assert (expected.gradients, expected.optimizer) == (int(gradients * size), int(optimizer * size))
    gathered = 2 * size if stage == 3 else 0
    assert expected.buffers == 2 * 500_000_000 + gathered


def test_what_is_offloaded_is_in_cpu_memory():
    model = meta_model()
    size = sum(p.numel() for p in model.parameters())
    expected = memory(model, Sharding(2, True, 3, True, True, "bf16"))
    assert (expected.weights, expected.reference, expected.gradients, expected.optimizer) == (0, 0, 0, 0)
    assert expected.host == sum(int(share * size) for share in (1, 1, 1, 6))


@pytest.mark.parametrize(("optim", "bytes_each"), [("adamw_bnb_8bit", 2), ("sgd", 0), ("lion_32bit", 4), ("other", 8)])
def test_states_depend_on_the_optimizer(optim, bytes_each):
    model = meta_model()
    assert memory(model, Sharding(), optim).optimizer == bytes_each * sum(p.numel() for p in model.parameters())


def test_autocast_keeps_half_copies_of_the_matrices_that_train():
    model = meta_model()
    matrices = sum(p.numel() for p in model.parameters() if p.ndim > 1)
    plain, cast = (memory(model, Sharding(mixed_precision=name)).weights for name in ("no", "bf16"))
    assert cast - plain == 2 * matrices


def test_lora_pays_for_its_adapters_only():
    model = meta_model(dtype=torch.bfloat16, rank=4)
    # Rank 4 on two layers: q, k, v, o of 32 → 32, gate and up of 32 → 64, down of 64 → 32
    adapters = 2 * 4 * (4 * (32 + 32) + 3 * (32 + 64))
    expected = memory(model, Sharding(), reference=False)
    assert (expected.gradients, expected.optimizer) == (4 * adapters, 8 * adapters)  # PEFT makes them float32
    frozen = sum(p.numel() for p in model.parameters()) - adapters
    assert expected.weights == 2 * frozen + 4 * adapters


def test_a_value_model_pays_for_its_adapters_and_for_a_pass_of_its_own():
    model = meta_model(dtype=torch.bfloat16, rank=4)
    batch, args = LargestBatch(100, 10, 0), SimpleNamespace(optim="adamw_torch", gradient_checkpointing=True)
    policy = expected_memory(model, args, Sharding(), batch, reference=False)
    adapters = sum(p.numel() for p in model.parameters() if p.requires_grad)
    model.value_model = new_value_model(model)
    both = expected_memory(model, args, Sharding(), batch, reference=False, passes=2)
    score = model.config.text_config.hidden_size
    assert both.weights - policy.weights == 4 * (adapters + 2 * score)  # PEFT keeps a score beside the one that trains
    assert both.gradients - policy.gradients == 4 * (adapters + score)
    assert both.activations - policy.activations == 100 * 2 * score * 2  # inputs of two layers, in bfloat16


def test_a_layer_keeps_what_its_backward_pass_reads():
    layer = LayerShape(layers=3, hidden=8, queries=8, keys=4, inner=16, gated=True)
    # 2 of 8, 2 of 8, 2 of 4, 4 of 16 in 2 bytes; 2 of 8 in float32 and in 2 bytes
    assert layer.kept(stream=2, number=2) == 2 * (16 + 16 + 8 + 64) + 2 * 8 * (4 + 2) == 304
    assert layer.stack(5, 2, 2, checkpointing=False) == (5 * 3 * 304, 5 * (2 * 48 + 2 * 16))
    assert layer.stack(5, 2, 2, checkpointing=True) == (5 * 3 * 8 * 2, 5 * (304 + 2 * 48 + 2 * 16))


def test_the_largest_batch_has_the_longest_rows_and_each_prompt_once():
    rows = counts((10, 4, 2), (30, 5, 9), (20, 1, 1))
    assert largest_batch(rows, 2, patches=7) == LargestBatch(2 * 44, 2 * 14, 2 * 7)
    assert largest_batch(rows, 2, patches=7, shared=False) == LargestBatch(2 * 2 * 39, 2 * 14, 2 * 2 * 7)
    assert largest_batch(rows, 8, num_answers=3) == LargestBatch(3 * 53, 3 * 23, 0)
    assert largest_batch(rows, 1, answer_tokens=6) == LargestBatch(42, 12, 0)
    assert largest_batch(counts((10, 4, 0)), 1).tokens == 18  # `rejected` is still to be made


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"use_peft": True, "gradient_checkpointing": True}], ids=["full", "lora"])
def test_a_real_step_takes_what_was_expected(changes):
    settings = DPOBenchmark(size="small", batch_size=1, rounds=2, response_tokens=[64, 64], vs="none", **changes)
    _, processor = llava_next("small")
    rows = random_pairs(settings.image_size, 1, settings.response_tokens, processor)
    model = meta_model("small", rank=24 if settings.use_peft else None)
    patches = image_patches(rows[0]["images"], processor, model.config.vision_config)
    expected = memory(
        model,
        Sharding(),
        batch=largest_batch(count_tokens(rows, processor), 1, patches),
        reference=not settings.use_peft,
        checkpointing=settings.gradient_checkpointing,
    )
    measured = peak_memory(make_trainer, OURS, settings)
    print(f"expected {expected.total / 2**20:.0f} MiB, measured {measured / 2**20:.0f} MiB\n{expected}")
    assert 1 / 1.5 < measured / expected.total < 1.5
