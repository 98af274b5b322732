import torch
from hypothesis import given
from hypothesis import strategies as st

from trl_mm.bdhs.masking import visible_tokens


def test_thresholds_zero_and_one_show_and_hide_everything():
    assert visible_tokens(500, 0.0, (1,)).all()
    assert not visible_tokens(500, 1.0, (1,)).any()


@given(st.floats(0, 1), st.integers(0, 1000))
def test_the_share_of_hidden_tokens_is_the_threshold(threshold, seed):
    hidden = 1 - visible_tokens(20_000, threshold, (seed,)).float().mean().item()
    assert abs(hidden - threshold) < 0.02


def test_tokens_are_drawn_independently_of_one_another():
    masks = torch.stack([visible_tokens(2, 0.5, (seed,)) for seed in range(4000)]).float()
    assert abs(torch.corrcoef(masks.T)[0, 1]) < 0.07


def test_equal_seeds_give_equal_masks_and_others_differ():
    draws = [
        visible_tokens(200, 0.5, seed) for seed in [(0, "a", 1), (0, "a", 1), (0, "a", 2), (0, "b", 1), (1, "a", 1)]
    ]
    assert torch.equal(draws[0], draws[1])
    assert all(not torch.equal(draws[0], draw) for draw in draws[2:])
