"""The time of a run follows from operations and a measured rate, and is a measured time where there is one."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageTextToText

from trl_mm.bench.duration import RATES, expected_duration, known_gpu, seconds_per_row
from trl_mm.bench.models import llava_next
from trl_mm.tokens.lengths import TokenCounts


LORA = {"shared": True, "checkpointing": True, "trains_all": False, "cached_reference": False}


@pytest.fixture(scope="module")
def model():
    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(llava_next("7b")[0])


def counts(rows=4, prompt=2936, answer=192, image=2928):
    return TokenCounts(*(np.full(rows, number) for number in (prompt, answer, answer, image)))


def test_the_measured_step_takes_the_measured_time(model):
    """2 pairs, 1.25 s on an H200 (RESULTS.md)."""
    seconds = seconds_per_row(model, counts(), 2880, rate=known_gpu("h200"), **LORA)
    assert 2 * seconds == pytest.approx(1.25, rel=0.05)
    assert 2 * seconds_per_row(model, counts(9), 2880, rate=known_gpu("H200"), **LORA) == pytest.approx(2 * seconds)


def test_what_costs_more_takes_longer(model):
    def seconds(**changes):
        return seconds_per_row(model, counts(), 2880, rate=RATES["H200"], **{**LORA, **changes})

    assert seconds(cached_reference=True) < seconds() < seconds(trains_all=True)
    assert seconds(checkpointing=False) < seconds() < 1.95 * seconds() > seconds(shared=False) > 1.8 * seconds()


def test_slower_gpus_take_longer_and_are_marked_as_estimates():
    rates = [RATES[name].training for name in ("H200", "A100", "L4")]
    assert rates == sorted(rates, reverse=True)
    text = expected_duration(0.5, 4, 14400, 2, "a100")
    assert text.startswith("Expected time on 2 x A100: 2.00 s per step, 1.0 hours together. An estimate, not measured")
    assert "measured step" in expected_duration(0.5, 4, 14400, 2, "H200")


def test_an_unknown_gpu_is_answered_with_the_known():
    with pytest.raises(ValueError, match="`gpu` must be one of H200, H100, .*, got 'H201'"):
        known_gpu("H201")
