"""Rows that share more than their own prompt, beside TRL's layout."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support.tiny import tiny_model
from trl.trainer import add_fused_lm_head

from trl_mm.trainer.prefix_sharing.attention import boolean_mask
from trl_mm.trainer.prefix_sharing.forest import Forests, pack_forest
from trl_mm.trainer.prefix_sharing.packing import score_again
from trl_mm.trainer.prefix_sharing.shared_forward import share_prefixes


FIELDS = ("log_probs", "entropy", "log_sum_sq_probs", "mean_logits", "is_top1")


def token_batch(rows):
    """Batch of `(group, prompt, answers)`, answers of one kind after the other, padded on the right with 0."""
    num_branches = len(rows[0][2])
    whole = [(prompt, answers[kind]) for kind in range(num_branches) for _, prompt, answers in rows]
    length = max(len(prompt) + len(answer) for prompt, answer in whole)
    input_ids, labels = torch.zeros(len(whole), length, dtype=torch.long), torch.full((len(whole), length), -100)
    for number, (prompt, answer) in enumerate(whole):
        end = len(prompt) + len(answer)
        input_ids[number, :end] = torch.tensor(prompt + answer)
        labels[number, len(prompt) : end] = torch.tensor(answer)
    return input_ids, labels, torch.tensor([group for group, _, _ in rows])


def numbered(rows):
    """Rows whose groups are numbered in the order in which they come."""
    numbers = {}
    return [
        (numbers.setdefault(group, len(numbers)), [5 + group, 6, *prompt], answers) for group, prompt, answers in rows
    ]


# Few different tokens, so that prompts and answers begin alike or are equal
TOKENS = st.lists(st.sampled_from([9, 10]), min_size=1, max_size=4)


def forests(num_branches):
    row = st.tuples(st.integers(0, 2), TOKENS, st.lists(TOKENS, min_size=num_branches, max_size=num_branches))
    return st.lists(row, min_size=1, max_size=6).map(numbered)


def model_with_head(attention="sdpa"):
    model = tiny_model(scale=2)
    model.set_attn_implementation(attention)
    add_fused_lm_head(model, outputs=FIELDS)
    return model


def run(model, input_ids, labels, **inputs):
    """Outputs, and gradients of a loss that weighs every log-probability differently."""
    mask = (input_ids != 0).long()
    outputs = model(input_ids=input_ids, attention_mask=mask, labels=labels, fused_lm_head=True, **inputs)
    weights = torch.arange(outputs.log_probs.numel()).view(outputs.log_probs.shape).cos()
    model.zero_grad()
    (outputs.log_probs * weights).sum().backward()
    return outputs, [p.grad.clone() for p in model.parameters() if p.grad is not None]


def assert_same(shared, plain):
    (outputs, grads), (expected, expected_grads) = shared, plain
    for name in FIELDS:
        value, wanted = getattr(outputs, name).float(), getattr(expected, name).float()
        torch.testing.assert_close(value, wanted, atol=1e-5, rtol=1e-5, msg=lambda text, name=name: f"{name}: {text}")
    scale = max([1.0, *(wanted.abs().max().item() for wanted in expected_grads)])
    for grad, wanted in zip(grads, expected_grads, strict=True):
        torch.testing.assert_close(grad, wanted, atol=1e-5 * scale, rtol=1e-5)


def test_the_layout_of_a_forest():
    rows = [
        (0, [5, 6, 7], [[9, 8], [9, 4]]),  # answers that begin alike
        (1, [3], [[4], [4]]),  # equal ones
        (0, [5, 6, 2], [[9], [8]]),  # another question to the same image
    ]
    pairs = pack_forest(*token_batch(rows))
    assert pairs.num_shared == 2 and pairs.leader.tolist() == [0, 1]
    # The prompt of the second group ends before the border. No answer's last token is computed
    assert pairs.input_ids.tolist() == [[5, 6, 7, 9, 2], [3, 0, 0, 0, 0]]
    assert pairs.position_ids.tolist() == [[0, 1, 2, 3, 2], [0, 0, 0, 0, 0]]
    assert pairs.branch.tolist() == [[0, 0, 1, 1, 2], [0, -1, -1, -1, -1]]
    assert boolean_mask(pairs.until)[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 0, 0, 1],
    ]
    assert sorted(zip(*(part.tolist() for part in (*pairs.predicting, pairs.predicted)), strict=True)) == [
        (0, 2, 9),
        (0, 3, 4),
        (0, 3, 8),
        (0, 4, 8),
        (0, 4, 9),
        (1, 0, 4),
    ]
    labels = token_batch(rows)[1][:, 1:]
    assert torch.equal(pairs.unpack(pairs.predicted), labels.clamp(min=0))


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("num_branches", [2, 3])
@settings(max_examples=25)
@given(st.data())
def test_outputs_and_gradients_are_those_of_trls_layout(attention, num_branches, data):
    input_ids, labels, groups = token_batch(data.draw(forests(num_branches)))
    shared = model_with_head(attention)
    share_prefixes(shared)
    ours = run(shared, input_ids, labels, groups=groups, num_branches=num_branches)
    assert_same(ours, run(model_with_head(attention), input_ids, labels))


@settings(max_examples=25)
@given(forests(2), st.integers(0, 99))
def test_answers_that_are_scored_again_have_their_own_tokens(rows, seed):
    """Labels that differ where the answers are equal."""
    input_ids, labels, groups = token_batch(rows)
    torch.manual_seed(seed)
    count = len(groups)
    others = torch.randint(1, 12, (count, labels.shape[1])).where(labels[:count] != -100, -100)
    shared = model_with_head()
    share_prefixes(shared)
    repeated = torch.cat([input_ids, input_ids[:count]]), torch.cat([labels, others])
    ours = run(shared, *repeated, groups=groups, num_branches=3, scored_again=True)
    assert_same(ours, run(model_with_head(), *repeated))
    pairs = pack_forest(input_ids, labels, groups)
    wanted = torch.cat([labels, others])[:, 1:].clamp(min=0)
    again = score_again(pairs, others)
    assert torch.equal(again.unpack(again.predicted), wanted)


@given(forests(2))
def test_no_token_is_computed_twice(rows):
    pairs = pack_forest(*token_batch(rows))
    prefixes = set()
    for group, prompt, answers in rows:
        for answer in answers:
            whole = (prompt + answer)[:-1]
            prefixes |= {(group, *whole[: end + 1]) for end in range(len(whole))}
    assert len(prefixes) == (pairs.branch >= 0).sum()


@given(forests(2), st.data())
def test_an_answer_that_was_cut_away_leaves_the_others(rows, data):
    group, prompt, answers = rows[-1]
    cut = data.draw(st.sampled_from([0, 1]))
    rows = [*rows[:-1], (group, prompt, [answer if kind != cut else [] for kind, answer in enumerate(answers)])]
    input_ids, labels, groups = token_batch(rows)
    assume((labels != -100).any())
    pairs = pack_forest(input_ids, labels, groups)
    assert torch.equal(pairs.unpack(pairs.predicted), labels[:, 1:].clamp(min=0))


def test_a_batch_is_laid_out_once_for_the_models_that_read_it(monkeypatch):
    batch = token_batch([(0, [5, 6], [[9], [8]]), (0, [5, 7], [[9], [9, 8]])])
    forests, made = Forests(), []
    monkeypatch.setattr(
        "trl_mm.trainer.prefix_sharing.forest.pack_forest",
        lambda *inputs: made.append(pack_forest(*inputs)) or made[-1],
    )
    first = forests.pack(*batch, 0)
    assert forests.pack(*batch, 0) is first and len(made) == 1
    other = forests.pack(batch[0], batch[1].masked_fill(batch[1] == 9, 8), batch[2], 0)
    assert len(made) == 2 and other.predicted.tolist() != first.predicted.tolist()
