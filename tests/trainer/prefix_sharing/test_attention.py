"""Attention over a shared prompt beside plain softmax attention with every pair of tokens spelled out."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trl_mm.trainer.prefix_sharing.attention import MASKS, SHARED_SDPA, boolean_mask, sdpa_shared_prefix


# Length of the prompt and of each answer, of each row
ROWS = st.lists(
    st.tuples(st.integers(0, 5), st.lists(st.integers(0, 4), min_size=2, max_size=2)), min_size=1, max_size=3
).filter(lambda rows: any(prompt or sum(answers) for prompt, answers in rows))


def packed(rows):
    """Branch and reach of each token, shape `(batch_size, S + T)`, as `pack_pairs` makes them, and S."""
    num_shared, num_branched = max(prompt for prompt, _ in rows), max(sum(answers) for _, answers in rows)
    branches, reach = [], []
    for prompt, answers in rows:
        answered = [number for number, length in enumerate(answers, start=1) for _ in range(length)]
        branches.append([0] * prompt + [-1] * (num_shared - prompt) + answered)
        branches[-1] += [-1] * (num_shared + num_branched - len(branches[-1]))
        ends = {number: num_shared + sum(answers[:number]) for number in range(1, len(answers) + 1)}
        ends[0] = num_shared + num_branched
        reach.append([ends.get(branch, place + 1) for place, branch in enumerate(branches[-1])])
    return SimpleNamespace(branch=torch.tensor(branches), until=torch.tensor(reach), num_shared=num_shared)


def sees(branch, query, key):
    """What the layout means, for one row; padding sees itself, and the prompt."""
    return key <= query and (branch[key] == 0 or (branch[key] == branch[query] and (branch[key] > 0 or key == query)))


@given(ROWS)
def test_a_token_sees_its_prompt_and_its_own_branch(rows):
    pairs = packed(rows)
    length = pairs.branch.shape[1]
    expected = torch.tensor(
        [
            [[sees(row, query, key) for key in range(length)] for query in range(length)]
            for row in pairs.branch.tolist()
        ]
    )
    assert torch.equal(boolean_mask(pairs.until)[:, 0], expected)
    assert torch.equal(MASKS["sdpa"](pairs, torch.float32)[:, 0], expected[:, pairs.num_shared :])
    assert MASKS[SHARED_SDPA] is MASKS["sdpa"]
    for dtype in (torch.float32, torch.bfloat16):
        added = MASKS["eager"](pairs, dtype)[:, 0]
        assert added.dtype == dtype and torch.equal(added == 0, expected)
        assert (added[~expected] == torch.finfo(dtype).min).all()


def test_flex_attention_asks_the_same():
    pairs = packed([(3, [2, 3]), (1, [4, 0])])
    mask = MASKS["flex_attention"](pairs, torch.float32)
    expected = boolean_mask(pairs.until)[:, 0]
    rows, queries, keys = torch.meshgrid(*map(torch.arange, expected.shape), indexing="ij")
    assert torch.equal(mask.mask_mod(rows, torch.zeros_like(rows), queries, keys), expected)


@given(ROWS, st.sampled_from([1, 2]), st.integers(0, 99))
def test_outputs_and_gradients_are_those_of_plain_attention(rows, groups, seed):
    pairs = packed(rows)
    torch.manual_seed(seed)
    shape = (len(rows), 4, pairs.branch.shape[1], 8)
    query = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    key, value = (
        torch.randn(shape[0], 4 // groups, *shape[2:], dtype=torch.float64, requires_grad=True) for _ in range(2)
    )
    module = SimpleNamespace(num_key_value_groups=groups, is_causal=True, training=False)
    mask = MASKS[SHARED_SDPA](pairs, torch.float64)
    ours, _ = sdpa_shared_prefix(module, query, key, value, mask, scaling=0.3)

    scores = query @ key.repeat_interleave(groups, 1).transpose(2, 3) * 0.3
    scores = scores.masked_fill(~boolean_mask(pairs.until), -torch.inf)
    plain = (scores.softmax(-1) @ value.repeat_interleave(groups, 1)).transpose(1, 2)
    real = pairs.branch >= 0  # what padding sees is of no account
    torch.testing.assert_close(ours[real], plain[real])
    towards = torch.randn_like(plain[real])
    for wanted, found in zip(
        torch.autograd.grad((plain[real] * towards).sum(), (query, key, value)),
        torch.autograd.grad((ours[real] * towards).sum(), (query, key, value)),
        strict=True,
    ):
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("with_mask", [False, True])
def test_without_a_shared_part_it_is_what_transformers_has(with_mask):
    query, key, value = torch.randn(3, 1, 2, 5, 8).unbind()
    mask = torch.ones(5, 5).tril().bool()[None, None] if with_mask else None
    module = SimpleNamespace(num_key_value_groups=1, is_causal=True, training=False)
    output, _ = sdpa_shared_prefix(module, query, key, value, mask, scaling=1.0)
    causal = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True, scale=1.0)
    torch.testing.assert_close(output, causal.transpose(1, 2))
