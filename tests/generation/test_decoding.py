"""Choice of tokens beside torch and transformers, and what a model is like while it generates."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from support.tiny import tiny_model
from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopPLogitsWarper

from trl_mm.generation.decoding import SamplingSettings, SeededSampling, StopWhere, generating


LOGITS = torch.tensor([[2.0, 0.0, 1.0, -torch.inf, 0.5]])


def drawn(settings, seeds, logits=LOGITS, steps=1):
    """Tokens that `settings` choose for each seed, of shape `(len(seeds), steps)`."""
    chosen = LogitsProcessorList(settings.processors(seeds))
    scores = logits.expand(len(seeds), -1)
    return torch.stack([chosen(None, scores).argmax(-1) for _ in range(steps)], 1)


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.5, 1.0), (2.0, 0.7), (1.0, 0.6)])
def test_tokens_are_drawn_with_the_probabilities_that_transformers_leaves(temperature, top_p):
    warped = TemperatureLogitsWarper(temperature)(None, LOGITS)
    expected = TopPLogitsWarper(top_p)(None, warped).softmax(-1)[0]
    tokens = drawn(SamplingSettings(temperature=temperature, top_p=top_p), [(n,) for n in range(4000)])
    shares = torch.bincount(tokens[:, 0], minlength=5) / len(tokens)
    assert (shares[expected == 0] == 0).all()
    assert ((shares - expected).abs() < 4 * (expected * (1 - expected) / len(tokens)).sqrt() + 1e-6).all()


@given(st.lists(st.tuples(st.integers(0, 9), st.text(max_size=3)), min_size=1, max_size=5), st.integers(1, 6))
def test_a_row_is_drawn_by_its_own_seed_at_every_step(seeds, steps):
    settings = SamplingSettings(max_new_tokens=8)
    together = drawn(settings, seeds, steps=steps)
    alone = torch.cat([drawn(settings, [seed], steps=steps) for seed in seeds])
    assert torch.equal(together, alone)
    longer = drawn(SamplingSettings(max_new_tokens=20), seeds, steps=steps)
    assert torch.equal(together, longer), "the limit does not change what is drawn before it"


def test_one_token_is_left_and_steps_draw_anew():
    sampling = SeededSampling([("a",), ("b",)], 30)
    scores = [sampling(None, torch.zeros(2, 7)) for _ in range(30)]
    assert all((one == 0).sum(-1).tolist() == [1, 1] and one.isinf().sum() == 12 for one in scores)
    first, second = torch.stack([one.argmax(-1) for one in scores], 1)
    assert len(set(first.tolist())) > 3 and not torch.equal(first, second)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("number", [0.0, 1e-300, 0.5, 1 - 2**-53])
def test_a_token_without_probability_is_never_drawn_whatever_the_number_and_the_rounding(number, dtype):
    """The least and the greatest number that are drawn; probabilities whose sum is rounded to less or more than 1."""
    torch.manual_seed(0)
    logits = torch.randn(64, 500).mul(4).to(dtype)
    logits[:, :3] = logits[:, -3:] = -torch.inf
    logits[torch.rand(64, 500) < 0.3] = -torch.inf
    sampling = SeededSampling([(row,) for row in range(64)], 1)
    sampling.uniform[:] = number
    (chosen,) = (sampling(None, logits) == 0).nonzero()[:, 1:].T
    probabilities = logits.double().softmax(-1)
    cumulative = probabilities.cumsum(-1)
    assert (probabilities.gather(1, chosen[:, None]) > 0).all()
    # The token on whose share of [0, 1) the number lies: what comes before it is not more, and with it, it is more
    upper, total = cumulative.gather(1, chosen[:, None])[:, 0], cumulative[:, -1]
    lower = upper - probabilities.gather(1, chosen[:, None])[:, 0]
    assert ((lower <= number * total + 1e-15) & (number * total < upper)).all()
    assert (cumulative[:, -1] < 1).any() and (cumulative[:, -1] > 1).any(), "or the test says less than its name"


def test_greedy_decoding_needs_nothing():
    assert SamplingSettings(temperature=0.0).processors([(1,)]) == []


def test_rows_end_on_their_own_where_an_end_is_found():
    texts, decoded = {5: "A cat. There", 6: "A cat", 7: ". "}, []

    def decode(ids, rows):
        decoded.append(list(rows))
        return [texts[ids[row, -1].item()] for row in rows]

    stop = StopWhere(lambda text: text.find(".") if "." in text else None, decode)
    assert stop(torch.tensor([[1, 5], [2, 6], [3, 7]]), None).tolist() == [True, False, True]
    # Those that have ended stay so, whatever pads them, and cost nothing
    assert stop(torch.tensor([[5, 6], [6, 6], [7, 6]]), None).tolist() == [True, False, True]
    assert stop(torch.tensor([[6, 6], [6, 5], [6, 6]]), None).tolist() == [True, True, True]
    assert decoded == [[0, 1, 2], [1], [1]]


@pytest.mark.parametrize("lora", [False, True])
def test_a_model_is_as_it_was_after_generating_whatever_happens(lora):
    model = tiny_model()
    model.generation_config.update(num_beams=3, repetition_penalty=2.0)
    own = model.generation_config
    bare, model = model, get_peft_model(model, LoraConfig(target_modules=["q_proj"])) if lora else model
    model.train()
    bare.base_model.vision_tower.eval()
    before = {name: module.training for name, module in model.named_modules()}
    with pytest.raises(RuntimeError, match="stop"), generating(model):
        assert not torch.is_grad_enabled() and not any(module.training for module in model.modules())
        assert bare.generation_config.num_beams != 3 and bare.generation_config.repetition_penalty != 2.0
        raise RuntimeError("stop")
    assert torch.is_grad_enabled() and bare.generation_config is own
    assert {name: module.training for name, module in model.named_modules()} == before
    assert len(set(before.values())) == 2
